/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Transactions: several changes that all happen or all do not.
 *
 * The rule: **prepare can fail, commit and abort cannot.**  A function that
 * takes part does its change at once, does in it everything that may fail, and
 * on success adds an action that knows how to undo it (abort), how to make it
 * final (commit), and what to free in both cases (clean).  On failure it adds
 * nothing and leaves the state as it found it; its caller then aborts the
 * transaction.
 *
 *     tran = tran_new();
 *     ret = change_a(tran, errp);
 *     if (ret == 0) {
 *         ret = change_b(tran, errp);
 *     }
 *     tran_finalize(tran, ret);
 *
 * A commit callback acts on the final state, so commits run in the order in
 * which the actions were added.  An abort callback must find the state that
 * its own change left behind, so aborts run in the reverse order.  Clean
 * callbacks run after all commits or aborts, in the same order as those did.
 *
 * Actions may be added only before the transaction ends, not by callbacks.  A
 * transaction belongs to one thread; the callbacks run in the caller's
 * context.
 */
#ifndef UTIL_TRANSACTIONS_H
#define UTIL_TRANSACTIONS_H

typedef struct Transaction Transaction;

/*
 * What an action does; each callback may be NULL.  Exactly one of commit and
 * abort is called, exactly once, and clean exactly once after it.
 */
typedef struct TransactionActionDrv {
    void (*abort)(void *opaque);
    void (*commit)(void *opaque);
    void (*clean)(void *opaque);
} TransactionActionDrv;

/*
 * A transaction without actions, ended and freed by one of the functions
 * below.
 */
Transaction *tran_new(void);

/* Add an action.  @drv must outlive the transaction; @opaque belongs to it. */
void tran_add(Transaction *tran, const TransactionActionDrv *drv, void *opaque);

/* End and free the transaction, keeping / undoing all changes. */
void tran_commit(Transaction *tran);
void tran_abort(Transaction *tran);

/* tran_abort() if @ret is negative, tran_commit() otherwise. */
static inline void tran_finalize(Transaction *tran, int ret)
{
    if (ret < 0) {
        tran_abort(tran);
    } else {
        tran_commit(tran);
    }
}

#endif /* UTIL_TRANSACTIONS_H */
