# SPDX-License-Identifier: GPL-2.0-or-later
"""What a schema defines: types, commands and events, after name resolution."""

from common import c_name, enum_const


class Member:
    """A struct member, union branch or alternate branch."""

    def __init__(self, name, typ, optional, cond, features, pos, doc=None):
        self.name = name
        self.type = typ
        self.optional = optional
        self.cond = cond
        self.features = features
        self.pos = pos
        self.doc = doc

    @property
    def c_name(self):
        return c_name(self.name)

    @property
    def has_flag(self):
        """A pointer tells absence by NULL; anything else, and a list (whose
        NULL is the empty list), needs a has_ member beside it."""
        return self.optional and not self.type.null_is_absent


class Type:
    """Common to all types.

    json_type       as introspection names it
    qtype           suffix of QTYPE_ for the QObject this is read from, or None
    null_is_absent  an absent optional member is a NULL pointer
    """
    json_type = None
    qtype = None
    null_is_absent = False
    cond = None
    pos = None

    def __init__(self, name):
        self.name = name

    @property
    def c_name(self):
        return c_name(self.name, False)

    def c_type(self):
        raise NotImplementedError

    def c_member(self, ident):
        decl = self.c_type()
        return decl + ident if decl.endswith('*') else decl + ' ' + ident


class Builtin(Type):
    def __init__(self, name, ctype, json_type, qtype, pointer=False):
        super().__init__(name)
        self._ctype = ctype
        self.json_type = json_type
        self.qtype = qtype
        self.null_is_absent = pointer

    def c_type(self):
        return self._ctype


BUILTINS = [
    Builtin('str', 'char *', 'string', 'QSTRING', True),
    Builtin('int', 'int64_t', 'int', 'QNUM'),
    Builtin('number', 'double', 'number', 'QNUM'),
    Builtin('int8', 'int8_t', 'int', 'QNUM'),
    Builtin('int16', 'int16_t', 'int', 'QNUM'),
    Builtin('int32', 'int32_t', 'int', 'QNUM'),
    Builtin('int64', 'int64_t', 'int', 'QNUM'),
    Builtin('uint8', 'uint8_t', 'int', 'QNUM'),
    Builtin('uint16', 'uint16_t', 'int', 'QNUM'),
    Builtin('uint32', 'uint32_t', 'int', 'QNUM'),
    Builtin('uint64', 'uint64_t', 'int', 'QNUM'),
    Builtin('size', 'uint64_t', 'int', 'QNUM'),
    Builtin('bool', 'bool', 'boolean', 'QBOOL'),
    Builtin('any', 'QObject *', 'value', None, True),
    Builtin('null', 'QNull *', 'null', 'QNULL', True),
]


class Array(Type):
    json_type = 'array'
    qtype = 'QLIST'

    def __init__(self, element):
        super().__init__(element.name + 'List')
        self.element = element

    @property
    def cond(self):
        return self.element.cond

    def c_type(self):
        return self.c_name + ' *'


class EnumValue:
    def __init__(self, name, cond, features, pos, doc):
        self.name = name
        self.cond = cond
        self.features = features
        self.pos = pos
        self.doc = doc


class Enum(Type):
    json_type = 'string'
    qtype = 'QSTRING'

    def __init__(self, name, pos, cond, features, prefix):
        super().__init__(name)
        self.pos = pos
        self.cond = cond
        self.features = features
        self.prefix = prefix
        self.values = []

    def const(self, value):
        return enum_const(self.name, value, self.prefix)

    def c_type(self):
        return self.c_name


class Object(Type):
    """A struct, or a union when `tag` is set.

    members   own members, in order; for a union these are its base's
    tag       the discriminator, one of all_members()
    branches  union branches: Member with the discriminator's value as name
    """
    json_type = 'object'
    qtype = 'QDICT'
    null_is_absent = True

    def __init__(self, name, pos, cond, features, doc):
        super().__init__(name)
        self.pos = pos
        self.cond = cond
        self.features = features
        self.doc = doc
        self.base = None
        self.members = []
        self.tag = None
        self.branches = []
        self.implicit = False

    def all_members(self):
        chain, cur = [], self
        while cur:
            chain.insert(0, cur)
            cur = cur.base
        return [m for obj in chain for m in obj.members]

    def c_type(self):
        return self.c_name + ' *'


class Alternate(Type):
    json_type = 'value'
    null_is_absent = True

    def __init__(self, name, pos, cond, features):
        super().__init__(name)
        self.pos = pos
        self.cond = cond
        self.features = features
        self.branches = []

    def c_type(self):
        return self.c_name + ' *'


class Command:
    """`flags` has every key of schema._COMMAND_FLAGS; `arg` is an Object, or
    None if there are no arguments."""

    def __init__(self, name, pos, cond, features, doc):
        self.name = name
        self.pos = pos
        self.cond = cond
        self.features = features
        self.doc = doc
        self.arg = None
        self.ret = None
        self.boxed = False
        self.flags = {}

    @property
    def c_name(self):
        return c_name(self.name, False)


class Event:
    """`throttle`: None, or what is told apart when the event's rate is
    limited: the name of a string member, or '*' for nothing."""

    def __init__(self, name, pos, cond, features, doc):
        self.name = name
        self.pos = pos
        self.cond = cond
        self.features = features
        self.doc = doc
        self.arg = None
        self.boxed = False
        self.throttle = None

    @property
    def c_name(self):
        return c_name(self.name, False).lower()
