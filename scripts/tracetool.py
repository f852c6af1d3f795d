#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Generate the trace events of one directory.

Usage: tracetool.py NAME trace-events OUT.h OUT.c

Each line of a trace-events file declares one event,

    name(type arg, type arg...) "format " PRIx64 " more"

(an event without arguments has `(void)`).  It becomes an inline function
trace_name(arg...) which tests one bool, and prints when it is true, and a
bool function trace_name_enabled() for callers that have to compute an
argument first.  Empty lines and lines that begin with # are skipped.
"""
import re
import sys

EVENT = re.compile(r'''
    (?P<name>[a-z][a-z0-9_]*) \s*
    \( (?P<args>[^()]*) \) \s*
    (?P<fmt>" .* (?:"|PRI[a-zA-Z0-9]+))
    \s* $''', re.VERBOSE)
ARG = re.compile(r'^(?P<type>.*[\s*])(?P<name>[A-Za-z_][A-Za-z0-9_]*)$')
# What a format may consist of: strings and PRI macros, nothing with effects.
FMT = re.compile(r'^(?:"(?:[^"\\]|\\.)*"|PRI[a-zA-Z0-9]+|\s)+$')


class TraceError(Exception):
    """A line that is not a declaration."""


class Event:
    def __init__(self, line):
        match = EVENT.match(line)
        if not match:
            raise TraceError('expected NAME(ARGS) "FORMAT"')
        self.name = match['name']
        self.fmt = match['fmt']
        self.decl = ' '.join(match['args'].split())
        self.args = self.parse_args()
        if not FMT.match(self.fmt):
            raise TraceError('the format is not made of strings and PRI macros')
        if '\\n' in self.fmt:
            raise TraceError('the format must not contain a newline')

    def parse_args(self):
        if self.decl == 'void':
            return []
        names = []
        for arg in self.decl.split(','):
            match = ARG.match(arg.strip())
            if not match:
                raise TraceError(f"argument '{arg.strip()}' is not TYPE NAME")
            names.append(match['name'])
        return names


def read_events(path):
    events = {}
    with open(path, encoding='utf-8') as file:
        for number, line in enumerate(file, 1):
            line = line.strip()
            if not line or line.startswith('#'):
                continue
            try:
                event = Event(line)
                if event.name in events:
                    raise TraceError(f"event '{event.name}' appears twice")
            except TraceError as err:
                sys.exit(f'{path}:{number}: {err}')
            events[event.name] = event
    return list(events.values())


HEAD = '''/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Made by scripts/tracetool.py from {path}: edit that instead. */
'''


def write_header(group, path, events, out):
    guard = f'TRACE_{group.upper()}_GENERATED_H'
    out.write(HEAD.format(path=path))
    out.write(f'#ifndef {guard}\n#define {guard}\n\n')
    out.write('#include "util/osdep.h"\n#include "util/trace.h"\n')
    for event in events:
        actual = ''.join(', ' + arg for arg in event.args)
        out.write(f'''
extern TraceEvent trace_event_{event.name};

static inline bool trace_{event.name}_enabled(void)
{{
    return trace_event_enabled(&trace_event_{event.name});
}}

static inline void trace_{event.name}({event.decl})
{{
    if (trace_{event.name}_enabled()) {{
        trace_emit(&trace_event_{event.name},
                   {event.fmt}{actual});
    }}
}}
''')
    out.write(f'\n#endif /* {guard} */\n')


def write_source(group, path, events, out):
    out.write(HEAD.format(path=path))
    out.write(f'#include "trace/{group.replace("_", "-")}.h"\n\n')
    for event in events:
        out.write(f'TraceEvent trace_event_{event.name} = '
                  f'{{ .name = "{event.name}" }};\n')
    out.write('\nstatic TraceEvent *const events[] = {\n')
    for event in events:
        out.write(f'    &trace_event_{event.name},\n')
    out.write(f'''    NULL,
}};

static TraceGroup group = {{ .events = events }};

static void __attribute__((constructor)) trace_init_{group}(void)
{{
    trace_register_group(&group);
}}
''')


def main(argv):
    if len(argv) != 5:
        sys.exit(__doc__)
    group = re.sub(r'[^a-z0-9]', '_', argv[1])
    events = read_events(argv[2])
    label = argv[1] + '/trace-events'
    with open(argv[3], 'w', encoding='utf-8') as out:
        write_header(group, label, events, out)
    with open(argv[4], 'w', encoding='utf-8') as out:
        write_source(group, label, events, out)


if __name__ == '__main__':
    main(sys.argv)
