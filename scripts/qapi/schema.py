# SPDX-License-Identifier: GPL-2.0-or-later
"""Check definitions and resolve the names between them.

Everything the emitters rely on is established here: names are unique also as
C identifiers, types exist, bases and by-value members do not form cycles,
union branches belong to the discriminator, alternates can be told apart.
"""

import re

from common import QAPIError, c_name
from entities import (Alternate, Array, BUILTINS, Command, Enum, EnumValue,
                      Event, Member, Object)
from parser import Members, SchemaFile

# keyword -> (keys that must be there, keys that may be)
_KEYS = {
    'enum': (('data',), ('if', 'features', 'prefix')),
    'struct': (('data',), ('base', 'if', 'features')),
    'union': (('base', 'discriminator', 'data'), ('if', 'features')),
    'alternate': (('data',), ('if', 'features')),
    'command': ((), ('data', 'boxed', 'returns', 'gen', 'success-response',
                     'allow-oob', 'allow-preconfig', 'coroutine', 'if',
                     'features')),
    'event': ((), ('data', 'boxed', 'throttle', 'if', 'features')),
}
_COMMAND_FLAGS = {'gen': True, 'success-response': True, 'allow-oob': False,
                  'allow-preconfig': False, 'coroutine': False}

_TYPE_NAME = re.compile(r'^[A-Z][A-Za-z0-9]*$')
_MEMBER_NAME = re.compile(r'^[A-Za-z][A-Za-z0-9_.-]*$')
_VALUE_NAME = re.compile(r'^[A-Za-z0-9][A-Za-z0-9_.-]*$')
_COMMAND_NAME = re.compile(r'^[a-z][a-z0-9_-]*$')
_EVENT_NAME = re.compile(r'^[A-Z][A-Z0-9_]*$')
_CONFIG_NAME = re.compile(r'^[A-Z][A-Z0-9_]*$')


class Schema:
    def __init__(self, fname):
        self.types = {typ.name: typ for typ in BUILTINS}
        self.arrays = {}
        self.commands = {}
        self.events = {}
        self.exprs = []
        self.taken = {c_name(typ.name): typ.name for typ in BUILTINS}
        for expr in SchemaFile(fname).exprs:
            if 'pragma' not in expr.members:
                self.exprs.append((self._kind(expr), expr))
        for kind, expr in self.exprs:
            self._declare(kind, expr)
        # every type can be had as a list, used in the schema or not
        for typ in list(self.types.values()):
            self.array_of(typ)
        for kind, expr in self.exprs:
            getattr(self, '_resolve_' + kind)(expr)
        for kind, expr in self.exprs:
            self._check(kind, expr)

    # --- first pass: what is there ---

    @staticmethod
    def _kind(expr):
        kinds = [key for key in _KEYS if key in expr.members]
        if len(kinds) != 1:
            raise QAPIError(expr.pos, 'expected exactly one of: %s'
                            % ', '.join(_KEYS))
        kind = kinds[0]
        need, may = _KEYS[kind]
        if not isinstance(expr.members[kind], str):
            raise QAPIError(expr.pos, "'%s' must be a name" % kind)
        name = expr.members[kind]
        for key in need:
            if key not in expr.members:
                raise QAPIError(expr.pos, "%s '%s' lacks '%s'"
                                % (kind, name, key))
        for key in expr.members:
            if key not in (kind,) + need + may:
                raise QAPIError(expr.members.key_pos[key],
                                "%s '%s' does not take '%s'"
                                % (kind, name, key))
        if expr.doc and expr.doc.name != name:
            raise QAPIError(expr.doc.pos, "documentation is for '%s', the"
                            " definition is '%s'" % (expr.doc.name, name))
        return kind

    def _declare(self, kind, expr):
        name = expr.members[kind]
        pattern = {'command': _COMMAND_NAME,
                   'event': _EVENT_NAME}.get(kind, _TYPE_NAME)
        if not pattern.match(name):
            raise QAPIError(expr.pos, "bad name '%s' for %s" % (name, kind))
        if c_name(name) in self.taken:
            raise QAPIError(expr.pos, "'%s' is already defined" % name)
        if kind not in ('command', 'event') and name.endswith('List'):
            raise QAPIError(expr.pos,
                            "type name '%s' must not end in 'List'" % name)
        self.taken[c_name(name)] = name
        cond = self._cond(expr.members, expr.pos)
        feats = self._features(expr.members, expr.pos)
        if kind == 'enum':
            ent = Enum(name, expr.pos, cond, feats,
                       expr.members.get('prefix'))
        elif kind == 'alternate':
            ent = Alternate(name, expr.pos, cond, feats)
        elif kind in ('struct', 'union'):
            ent = Object(name, expr.pos, cond, feats, expr.doc)
        elif kind == 'command':
            self.commands[name] = Command(name, expr.pos, cond, feats,
                                          expr.doc)
            return
        else:
            self.events[name] = Event(name, expr.pos, cond, feats, expr.doc)
            return
        self.types[name] = ent

    # --- pieces ---

    def _cond(self, members, pos):
        cond = members.get('if')
        if cond is not None:
            self._check_cond(cond, pos)
        return cond

    def _check_cond(self, cond, pos):
        if isinstance(cond, str):
            if not _CONFIG_NAME.match(cond):
                raise QAPIError(pos, "'if' takes a CONFIG_ name, not '%s'"
                                % cond)
            return
        if (not isinstance(cond, dict) or len(cond) != 1
                or list(cond)[0] not in ('all', 'any', 'not')):
            raise QAPIError(pos, "'if' takes a name or one of 'all', 'any',"
                            " 'not'")
        (oper, arg), = cond.items()
        if oper == 'not':
            self._check_cond(arg, pos)
            return
        if not isinstance(arg, list) or not arg:
            raise QAPIError(pos, "'%s' takes a list of conditions" % oper)
        for item in arg:
            self._check_cond(item, pos)

    def _features(self, members, pos):
        feats = []
        items = members.get('features', [])
        if not isinstance(items, list):
            raise QAPIError(pos, "'features' must be a list")
        for item in items:
            if isinstance(item, str):
                item = {'name': item}
            if (not isinstance(item, dict) or set(item) - {'name', 'if'}
                    or not isinstance(item.get('name'), str)):
                raise QAPIError(pos, "a feature is a name or"
                                " {'name': NAME, 'if': COND}")
            if item['name'] in [feat[0] for feat in feats]:
                raise QAPIError(pos, "feature '%s' appears twice"
                                % item['name'])
            feats.append((item['name'], self._cond(item, pos)))
        return feats

    def array_of(self, element):
        if element.name not in self.arrays:
            self.arrays[element.name] = Array(element)
        return self.arrays[element.name]

    def _type(self, ref, pos, what):
        if isinstance(ref, list):
            if len(ref) != 1 or not isinstance(ref[0], str):
                raise QAPIError(pos, '%s: a list type has one element type'
                                % what)
            return self.array_of(self._type(ref[0], pos, what))
        if not isinstance(ref, str):
            raise QAPIError(pos, '%s must be a type name' % what)
        if ref not in self.types:
            raise QAPIError(pos, "%s uses unknown type '%s'" % (what, ref))
        return self.types[ref]

    def _members(self, data, owner, doc, pos):
        if not isinstance(data, Members):
            raise QAPIError(pos, "'data' of %s must be an object" % owner)
        out = []
        for key, val in data.items():
            kpos = data.key_pos[key]
            optional = key.startswith('*')
            name = key[1:] if optional else key
            what = "member '%s' of %s" % (name, owner)
            if (not _MEMBER_NAME.match(name)
                    or c_name(name, False).lower().startswith(('has_', 'q_'))
                    or c_name(name, False) == 'u'):
                raise QAPIError(kpos, '%s has a bad name' % what)
            if isinstance(val, Members):
                if set(val) - {'type', 'if', 'features'} or 'type' not in val:
                    raise QAPIError(kpos, "%s takes 'type', 'if', 'features'"
                                    % what)
            else:
                single = Members(kpos)
                single['type'] = val
                val = single
            out.append(Member(name, self._type(val['type'], kpos, what),
                              optional, self._cond(val, kpos),
                              self._features(val, kpos), kpos,
                              doc.members.get(name) if doc else None))
        return out

    # --- second pass: what it means ---

    def _resolve_enum(self, expr):
        enum = self.types[expr.members['enum']]
        data = expr.members['data']
        if not isinstance(data, list):
            raise QAPIError(expr.pos, "'data' of enum '%s' must be a list"
                            % enum.name)
        prefix = expr.members.get('prefix')
        if prefix is not None and not (isinstance(prefix, str)
                                       and _CONFIG_NAME.match(prefix)):
            raise QAPIError(expr.pos, "bad prefix in enum '%s'" % enum.name)
        seen = {'_MAX'}
        for item in data:
            if isinstance(item, str):
                item = {'name': item}
            if (not isinstance(item, dict) or not isinstance(
                    item.get('name'), str)
                    or set(item) - {'name', 'if', 'features'}):
                raise QAPIError(expr.pos, "a value of enum '%s' is a name or"
                                " {'name', 'if', 'features'}" % enum.name)
            name = item['name']
            pos = getattr(item, 'pos', expr.pos)
            if not _VALUE_NAME.match(name):
                raise QAPIError(pos, "bad value '%s' in enum '%s'"
                                % (name, enum.name))
            const = c_name(name, False).upper()
            if const in seen:
                raise QAPIError(pos, "value '%s' in enum '%s' collides with"
                                " another one" % (name, enum.name))
            seen.add(const)
            enum.values.append(EnumValue(
                name, self._cond(item, pos), self._features(item, pos), pos,
                expr.doc.members.get(name) if expr.doc else None))

    def _resolve_struct(self, expr):
        obj = self.types[expr.members['struct']]
        if 'base' in expr.members:
            obj.base = self._base(expr.members['base'], expr.pos, obj.name)
        obj.members = self._members(expr.members['data'],
                                    "struct '%s'" % obj.name, expr.doc,
                                    expr.pos)

    def _base(self, name, pos, owner):
        base = self.types.get(name) if isinstance(name, str) else None
        if not isinstance(base, Object):
            raise QAPIError(pos, "base of '%s' must be a struct" % owner)
        return base

    def _resolve_union(self, expr):
        obj = self.types[expr.members['union']]
        base = expr.members['base']
        if isinstance(base, Members):
            obj.members = self._members(base, "union '%s'" % obj.name,
                                        expr.doc, expr.pos)
        else:
            obj.base = self._base(base, expr.pos, obj.name)
        obj.branches = self._members(expr.members['data'],
                                     "union '%s'" % obj.name, None, expr.pos)

    def _resolve_alternate(self, expr):
        alt = self.types[expr.members['alternate']]
        alt.branches = self._members(expr.members['data'],
                                     "alternate '%s'" % alt.name, None,
                                     expr.pos)

    def _argument(self, expr, kind, ent):
        data = expr.members.get('data')
        if data is None:
            return
        what = "%s '%s'" % (kind, ent.name)
        if isinstance(data, Members):
            arg = Object('q_obj_' + c_name(ent.name, False) + '_arg',
                         expr.pos, ent.cond, [], expr.doc)
            arg.implicit = True
            arg.members = self._members(data, what, expr.doc, expr.pos)
            self._unique_members(arg, expr.doc)
            ent.arg = arg
        else:
            ent.arg = self._type(data, expr.pos, what)
            if not isinstance(ent.arg, Object):
                raise QAPIError(expr.pos, 'data of %s must be a struct or'
                                ' union' % what)
        ent.boxed = expr.members.get('boxed', False)
        if ent.boxed and ent.arg.implicit:
            raise QAPIError(expr.pos, "%s: 'boxed' needs a named type" % what)

    def _resolve_command(self, expr):
        cmd = self.commands[expr.members['command']]
        for flag, default in _COMMAND_FLAGS.items():
            value = expr.members.get(flag, default)
            if not isinstance(value, bool):
                raise QAPIError(expr.pos, "'%s' must be true or false" % flag)
            cmd.flags[flag] = value
        self._argument(expr, 'command', cmd)
        if 'returns' in expr.members:
            cmd.ret = self._type(expr.members['returns'], expr.pos,
                                 "command '%s'" % cmd.name)

    def _resolve_event(self, expr):
        event = self.events[expr.members['event']]
        self._argument(expr, 'event', event)
        key = expr.members.get('throttle')
        if key is None:
            return
        members = event.arg.all_members() if event.arg else []
        if key != '*' and key not in [m.name for m in members
                                      if m.type.name == 'str']:
            raise QAPIError(expr.pos, "'throttle' of event '%s' takes '*' or"
                            " the name of a string member" % event.name)
        event.throttle = key

    # --- third pass: whether it is consistent ---

    def _check(self, kind, expr):
        if kind in ('struct', 'union'):
            self._check_object(self.types[expr.members[kind]], expr)
        elif kind == 'alternate':
            self._check_alternate(self.types[expr.members[kind]])
        elif kind == 'enum':
            enum = self.types[expr.members[kind]]
            self._check_doc(expr.doc, [val.name for val in enum.values])

    @staticmethod
    def _check_doc(doc, names):
        for name in doc.members if doc else ():
            if name not in names:
                raise QAPIError(doc.pos, "'%s' is documented but is not part"
                                " of '%s'" % (name, doc.name))

    def _unique_members(self, obj, doc):
        seen = {}
        for member in obj.all_members():
            if member.c_name in seen:
                raise QAPIError(member.pos, "member '%s' collides with '%s'"
                                % (member.name, seen[member.c_name].name))
            seen[member.c_name] = member
        self._check_doc(doc, [m.name for m in obj.members])
        return seen

    def _check_object(self, obj, expr):
        chain, cur = [], obj
        while cur:
            if cur in chain:
                raise QAPIError(obj.pos, "'%s' is its own base" % obj.name)
            chain.append(cur)
            cur = cur.base
        for base in chain[1:]:
            if base.branches:
                raise QAPIError(obj.pos, "base '%s' of '%s' is a union"
                                % (base.name, obj.name))
        seen = self._unique_members(obj, expr.doc)
        if 'union' in expr.members:
            self._check_union(obj, expr.members['discriminator'], seen)

    def _check_union(self, obj, tag, base_members):
        for member in obj.all_members():
            if member.name == tag:
                obj.tag = member
        if (not obj.tag or obj.tag.optional or obj.tag.cond
                or not isinstance(obj.tag.type, Enum)):
            raise QAPIError(obj.pos, "discriminator of union '%s' must be a"
                            " required enum member of its base" % obj.name)
        values = {val.name: val for val in obj.tag.type.values}
        for branch in obj.branches:
            if branch.name not in values or branch.optional:
                raise QAPIError(branch.pos, "branch '%s' is not a value of"
                                " '%s'" % (branch.name, obj.tag.type.name))
            if branch.cond is None:
                branch.cond = values[branch.name].cond
            if not isinstance(branch.type, Object):
                raise QAPIError(branch.pos, "branch '%s' must be a struct or"
                                " union" % branch.name)
            for member in branch.type.all_members():
                if member.c_name in base_members:
                    raise QAPIError(branch.pos, "member '%s' of branch '%s'"
                                    " collides with the base"
                                    % (member.name, branch.name))

    @staticmethod
    def _check_alternate(alt):
        by_qtype = {}
        for branch in alt.branches:
            qtype = branch.type.qtype
            if qtype is None or branch.optional:
                raise QAPIError(branch.pos, "branch '%s' cannot be part of an"
                                " alternate" % branch.name)
            if qtype in by_qtype:
                raise QAPIError(branch.pos, "branch '%s' cannot be told from"
                                " '%s'" % (branch.name, by_qtype[qtype].name))
            by_qtype[qtype] = branch
        # On a command line every scalar arrives as a string.
        if 'QSTRING' in by_qtype and {'QNUM', 'QBOOL'} & set(by_qtype):
            raise QAPIError(alt.pos, "alternate '%s' has a string branch"
                            " beside a number or bool" % alt.name)
        if not alt.branches:
            raise QAPIError(alt.pos, "alternate '%s' is empty" % alt.name)

    # --- for emitters ---

    def user_types(self):
        """Types from schema files, in order of definition."""
        return [typ for typ in self.types.values() if typ not in BUILTINS]

    def own_arrays(self, names):
        """Lists to emit, see names_for() in main.py."""
        return [arr for arr in self.arrays.values()
                if names['builtins'] or arr.element not in BUILTINS]
