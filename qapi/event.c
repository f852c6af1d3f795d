/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Events: from who notices them to the one who listens. */
#include "util/osdep.h"
#include "qapi/event.h"

static QapiEventEmitter *listener;

void qapi_event_set_emitter(QapiEventEmitter *emitter)
{
    listener = emitter;
}

bool qapi_event_wanted(void)
{
    return listener != NULL;
}

void qapi_event_emit(const QapiEventInfo *info, QDict *data)
{
    if (listener) {
        listener(info, data);
    } else {
        qobject_unref(data);
    }
}
