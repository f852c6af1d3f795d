#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""manpage.py PROGRAM TEMPLATE OUTPUT

Fills the places @VERSION@, @OPTIONS@ and @COMMANDS@ of a manual page with what
the program says about itself, so that the two cannot differ.
"""
import re
import subprocess
import sys


def ask(*command):
    return subprocess.run(command, check=True, text=True,
                          stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE).stdout


def quote(text):
    """Plain text as roff sees it."""
    text = text.replace('\\', '\\e').replace('-', '\\-')
    return re.sub(r"(?m)^([.'])", r'\\&\1', text)


def bold_options(text):
    """Options in bold in a line that introduces one."""
    return re.sub(r'(?<![\w-])(--?[A-Za-z][\w-]*)',
                  lambda m: '\\fB' + m[1] + '\\fR', text)


def heading(text):
    return '.TP\n' + bold_options(text).replace('-', '\\-')


def img_command(program, name, summary):
    """The section of one command: its usage and the list of arguments."""
    text = ask(program, name, '--help')
    usage = re.search(r'Usage:\n\n(.*?)\n\n', text, re.S)[1]
    arguments = text[text.index('Arguments:') + len('Arguments:'):]
    out = [f'.SS {name}', quote(summary) + '.', '.PP', '.nf',
           quote('\n'.join(line.strip() if i == 0 else '      ' + line.strip()
                           for i, line in enumerate(usage.split('\n')))),
           '.fi']
    after = False
    for line in arguments.split('\n'):
        if re.match(r'  \S', line):
            out.append(heading(line.strip()))
        elif line.startswith('     '):
            out.append(quote(line.strip()))
        elif line.strip():
            # What follows the arguments: one paragraph.
            if not after:
                out.append('.PP')
                after = True
            out.append(quote(line.strip()))
    return '\n'.join(out)


def img_commands(program):
    listed = re.findall(r'(?m)^  (\w+) - (.*)$', ask(program, '--help'))
    return '\n'.join(img_command(program, *pair) for pair in listed)


def io_options(program):
    out = []
    for line in ask(program, '--help').split('\n'):
        match = re.match(r'  (-\S.*?)(?:  +(\S.*))?$', line)
        if match:
            out += [heading(match[1]), quote(match[2] or '')]
        elif line.startswith(' ' * 10) and out:
            out.append(quote(line.strip()))
    return '\n'.join(line for line in out if line)


def io_commands(program):
    out = []
    for line in ask(program, '-c', 'help').split('\n'):
        name, dash, summary = line.partition(' -- ')
        if not dash:
            continue
        command = name.split()[0]
        rest = ask(program, '-c', f'help {command}').split('\n')[2:]
        out += [heading(name), quote(summary) + '.']
        text = '\n'.join(rest).strip('\n')
        if text:
            out += ['.RS', '.PP', '.nf', quote(text), '.fi', '.RE']
    return '\n'.join(out)


def main():
    program, template, output = sys.argv[1:]
    with open(template, encoding='utf-8') as f:
        page = f.read()
    version = ask(program, '--version').split('\n')[0]
    page = page.replace('@VERSION@', re.search(r'version (\S+)', version)[1])
    if '@OPTIONS@' in page:
        page = page.replace('@OPTIONS@', io_options(program))
        if '@COMMANDS@' in page:
            page = page.replace('@COMMANDS@', io_commands(program))
    else:
        page = page.replace('@COMMANDS@', img_commands(program))
    with open(output, 'w', encoding='utf-8') as f:
        f.write(page)


if __name__ == '__main__':
    main()
