/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Transactions: an ordered list of actions that end together. */
#include "util/osdep.h"
#include "util/transactions.h"

typedef struct TransactionAction {
    const TransactionActionDrv *drv;
    void *opaque;
} TransactionAction;

struct Transaction {
    GArray *actions;    /* of TransactionAction, in the order of addition */
    bool ending;        /* callbacks are running: nothing may be added */
};

Transaction *tran_new(void)
{
    Transaction *tran = g_new0(Transaction, 1);

    tran->actions = g_array_new(FALSE, FALSE, sizeof(TransactionAction));
    return tran;
}

void tran_add(Transaction *tran, const TransactionActionDrv *drv, void *opaque)
{
    TransactionAction act = { .drv = drv, .opaque = opaque };

    assert(!tran->ending);
    g_array_append_val(tran->actions, act);
}

static void tran_free(Transaction *tran)
{
    g_array_free(tran->actions, TRUE);
    g_free(tran);
}

void tran_commit(Transaction *tran)
{
    guint n = tran->actions->len;

    tran->ending = true;
    for (guint i = 0; i < n; i++) {
        TransactionAction *act =
            &g_array_index(tran->actions, TransactionAction, i);

        if (act->drv->commit) {
            act->drv->commit(act->opaque);
        }
    }
    for (guint i = 0; i < n; i++) {
        TransactionAction *act =
            &g_array_index(tran->actions, TransactionAction, i);

        if (act->drv->clean) {
            act->drv->clean(act->opaque);
        }
    }
    tran_free(tran);
}

void tran_abort(Transaction *tran)
{
    guint n = tran->actions->len;

    tran->ending = true;
    for (guint i = n; i-- > 0;) {
        TransactionAction *act =
            &g_array_index(tran->actions, TransactionAction, i);

        if (act->drv->abort) {
            act->drv->abort(act->opaque);
        }
    }
    for (guint i = n; i-- > 0;) {
        TransactionAction *act =
            &g_array_index(tran->actions, TransactionAction, i);

        if (act->drv->clean) {
            act->drv->clean(act->opaque);
        }
    }
    tran_free(tran);
}
