# SPDX-License-Identifier: GPL-2.0-or-later
"""Lines of the table, and the same as a picture."""
import html
import math

HEAD = (f'{"":34}{"ours":>11}{"theirs":>11} {"their best":13}{"ratio":>6}'
        f'{"target":>9}{"cpu":>7}{"MiB":>6}{"theirs":>8}')
UNITS = {'time': (1e3, 'ms'), 'request': (1e6, 'us'), 'work': (1e6, 'us'),
         'size': (1 / (1 << 20), 'MiB'), 'memory': (1 / (1 << 20), 'MiB')}


class Result:
    """One Line with its numbers."""

    def __init__(self, line, medians):
        labels = line.against or [label for label in medians
                                  if label.split()[0] != 'ours']
        self.line = line
        self.best = min(labels, key=lambda label: medians[label][line.key])
        self.ours, self.theirs = medians[line.side], medians[self.best]
        self.ratio = self.ours[line.key] / self.theirs[line.key]

    @property
    def met(self):
        """None if there is nothing to meet."""
        return None if self.line.target is None \
            else self.ratio <= self.line.target

    def text(self):
        scale, unit = UNITS[self.line.key]
        ours, theirs = (f'{side[self.line.key] * scale:.1f} {unit}'
                        for side in (self.ours, self.theirs))
        target = '' if self.line.target is None else \
            f'{self.line.target:.2f} {"ok" if self.met else "NO"}'
        cpu = f'{self.ours["cpu"] / self.theirs["cpu"]:.2f}' \
            if self.theirs['cpu'] and self.line.key not in ('size', 'memory') \
            else ''
        return (f'{self.line.name:34}{ours:>11}{theirs:>11} {self.best:13.13}'
                f'{self.ratio:6.2f}{target:>9}{cpu:>7}'
                f'{self.ours["memory"] / (1 << 20):6.0f}'
                f'{self.theirs["memory"] / (1 << 20):8.0f}')


WIDTH, LABELS, ROW, TOP, BOTTOM = 820, 250, 16, 40, 24
# Ratios at the edges; what is beyond ends there.
LOW, HIGH = 1 / 32, 2


def _x(ratio):
    share = math.log(min(max(ratio, LOW), HIGH) / LOW) / math.log(HIGH / LOW)
    return LABELS + share * (WIDTH - LABELS - 50)


def svg(results, title):
    """A bar for each ratio, on a logarithmic scale; a tick at its target."""
    height = TOP + ROW * len(results) + BOTTOM
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" '
           f'height="{height}" font-family="sans-serif" font-size="11">',
           f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
           f'<text x="8" y="16" font-size="12">{html.escape(title)}</text>']
    for mark in (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1):
        x = _x(mark)
        out.append(f'<line x1="{x:.0f}" x2="{x:.0f}" y1="{TOP - 6}" '
                   f'y2="{height - BOTTOM}" '
                   f'stroke="{"black" if mark == 1 else "#ddd"}"/>'
                   f'<text x="{x:.0f}" y="{height - 8}" '
                   f'text-anchor="middle">{mark:g}</text>')
    for i, result in enumerate(results):
        y = TOP + ROW * i
        color = {True: '#4a8', False: '#c54', None: '#69b'}[result.met]
        out.append(f'<text x="{LABELS - 6}" y="{y + 11}" text-anchor="end">'
                   f'{html.escape(result.line.name)}</text>'
                   f'<rect x="{LABELS}" y="{y + 2}" height="{ROW - 5}" '
                   f'width="{_x(result.ratio) - LABELS:.1f}" fill="{color}"/>'
                   f'<text x="{_x(result.ratio) + 4:.1f}" y="{y + 11}">'
                   f'{result.ratio:.2f}</text>')
        if result.line.target is not None:
            x = _x(result.line.target)
            out.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y}" '
                       f'y2="{y + ROW - 1}" stroke="black" '
                       f'stroke-width="2"/>')
    return '\n'.join(out) + '\n</svg>\n'
