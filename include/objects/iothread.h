/* SPDX-License-Identifier: GPL-2.0-or-later */
/* IOThreads as objects; what user_object_data() has is an IOThread. */
#ifndef OBJECTS_IOTHREAD_H
#define OBJECTS_IOTHREAD_H

#include "objects/object.h"

/* For objects/object.c. */
extern const UserObjectClass iothread_class;

#endif
