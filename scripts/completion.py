#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""completion.py bash|zsh PROGRAM QEMU_IMG OUTPUT

Makes the shell's completion of a program from what --help says, so that the two
cannot differ. A program with commands has their options behind each command.
QEMU_IMG knows the formats.
"""
import os
import re
import shlex
import subprocess
import sys

CACHE = 'none writeback writethrough directsync unsafe'
# What an option's argument is, by the name of the option or that of the argument
# in the help. @file, @format and @options are found out while completing.
BY_OPTION = {
    'aio': 'threads native io_uring',
    'discard': 'ignore unmap off on',
    'preallocation': 'off metadata falloc full',
}
BY_ARGUMENT = [
    (r'.*FMT', '@format'),
    (r'(.*_)?FILE|BACKING|BASE|PATH', '@file'),
    (r'(.*_)?OPTIONS', '@options'),
]


def ask(*command):
    return subprocess.run(command, check=True, text=True,
                          stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE).stdout


def kind_of(names, argument):
    """Words, a kind of BY_ARGUMENT, or '' where nothing is known."""
    long = names[-1 if names[-1].startswith('--') else 0].lstrip('-')
    if '|' in argument:
        return argument.replace('|', ' ')
    if long.endswith('cache'):
        return CACHE
    for pattern, kind in BY_ARGUMENT:
        if re.fullmatch(pattern, argument):
            return kind
    return BY_OPTION.get(long, '')


def options_of(help_text):
    """(names, kind or None, whether =ARG is optional, text) of each option."""
    lines = help_text.split('\n')
    for i, line in enumerate(lines):
        head = re.match(r'  (-\S.*?)(?:  +(\S.*))?$', line)
        if not head:
            continue
        text = head[2] or (lines[i + 1].strip() if i + 1 < len(lines) else '')
        spec, _, old = head[1].partition(' (old spelling: ')
        names = re.findall(r'(?:^|, )(--?[A-Za-z][\w-]*)', spec)
        optional = re.search(r'\[=(\S+?)\]', spec)
        argument = optional or re.search(r'(?:=|(?<!,) )([^\s=-]\S*)', spec)
        kind = kind_of(names, argument[1]) if argument else None
        if old:
            names.append(old.rstrip(')'))
        yield names, kind, bool(optional), text


def commands_of(program):
    return re.findall(r'(?m)^  (\w+) - (.*)$', ask(program, '--help'))


def formats_of(qemu_img):
    return re.search(r'(?m)^Supported formats: (.*)$',
                     ask(qemu_img, '--help'))[1]


def tables(program):
    """{command or '': options}"""
    found = {'': list(options_of(ask(program, '--help')))}
    for name, _ in commands_of(program):
        found[name] = list(options_of(ask(program, name, '--help')))
    return found


# --- bash ---

BASH = '''\
# bash completion for {name}, from its --help

{func}()
{{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD - 1]}}
    local cmd= fmt= i words= kind=
    COMPREPLY=()
    # "--option=value" comes as three words.
    if [[ $cur == = ]]; then
        cur=
    elif [[ $prev == = ]]; then
        prev=${{COMP_WORDS[COMP_CWORD - 2]}}
    fi
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${{COMP_WORDS[i]}} in
        {commands}) [[ $cmd ]] || cmd=${{COMP_WORDS[i]}} ;;
        -f|-O|--format|--target-format) fmt=${{COMP_WORDS[i + 1]}} ;;
        esac
    done
    case $cmd,$prev in
{kinds}
    esac
    case $kind in
    @file)
        compopt -o filenames
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        return ;;
    @format) words={formats} ;;
    @options)
        compopt -o nospace
        words=$({name} create -f "${{fmt:-raw}}" -o help 2>/dev/null |
                sed -n 's/^  \\([a-z_.-]*\\)=.*/\\1=/p') ;;
    "")
        if [[ $cur == -* || ( ! $cmd && {has_commands} ) ]]; then
            case $cmd in
{words}
            esac
        else
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            return
        fi ;;
    -) return ;;
    *) words=$kind ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}}
complete -F {func} {name}
'''


def bash(program, name, formats):
    found = tables(program)
    commands = [c for c in found if c]
    kinds, words = [], []
    for command, options in found.items():
        names = [n for o in options for n in o[0]]
        if not command:
            names += commands
        words.append(f'            "{command}") '
                     f'words={shlex.quote(" ".join(names))} ;;')
        for opts, kind, optional, _ in options:
            # An argument that may be left out is completed behind "=" only.
            if kind is None or optional:
                continue
            pattern = '|'.join(f'{command},{o}' for o in opts)
            kinds.append(f'    {pattern}) kind={shlex.quote(kind or "-")} ;;')
    return BASH.format(name=name, func='_' + name.replace('-', '_'),
                       commands='|'.join(commands) or '""',
                       kinds='\n'.join(kinds), words='\n'.join(words),
                       formats=shlex.quote(formats),
                       has_commands='1' if commands else '! 1')


# --- zsh ---

def zsh_escape(text):
    return re.sub(r"([\[\]:\\])", r'\\\1', text).replace("'", "'\\''")


def zsh_action(kind, formats):
    if kind == '@file':
        return '_files'
    if kind == '@format':
        return f'({formats})'
    return f'({kind})' if kind and not kind.startswith('@') else ' '


def zsh_specs(options, formats, indent):
    for names, kind, optional, text in options:
        for name in names:
            spec = name
            if kind is not None:
                spec += '=-' if optional else \
                    '=' if name.startswith('--') else ''
            spec += f'[{zsh_escape(text)}]'
            if kind is not None:
                spec += f'{":" * (2 if optional else 1)}argument:' \
                        f'{zsh_action(kind, formats)}'
            yield f"{indent}'*{spec}'"


def zsh(program, name, formats):
    found = tables(program)
    out = [f'#compdef {name}', f'# zsh completion for {name}, from its --help',
           '']
    if len(found) == 1:
        specs = ' \\\n'.join(zsh_specs(found[''], formats, '    '))
        return '\n'.join(out + [f'_arguments \\\n{specs} \\', "    '*:file:_files'",
                                ''])
    out += ['local line state', '_arguments -C \\',
            ' \\\n'.join(zsh_specs(found[''], formats, '    ')) + ' \\',
            "    '1:command:->command' '*::argument:->argument'",
            'case $state in', 'command)', '    local -a commands=(']
    out += [f"        '{command}:{zsh_escape(text)}'"
            for command, text in commands_of(program)]
    out += ['    )', "    _describe command commands ;;", 'argument)',
            '    case $line[1] in']
    for command, options in found.items():
        if command:
            specs = ' \\\n'.join(zsh_specs(options, formats, '            '))
            out += [f'    {command})', f'        _arguments \\\n{specs} \\',
                    "            '*:file:_files' ;;"]
    return '\n'.join(out + ['    esac ;;', 'esac', ''])


def main():
    shell, program, qemu_img, output = sys.argv[1:]
    text = {'bash': bash, 'zsh': zsh}[shell](program, os.path.basename(program),
                                             formats_of(qemu_img))
    with open(output, 'w', encoding='utf-8') as f:
        f.write(text)


if __name__ == '__main__':
    main()
