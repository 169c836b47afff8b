/*
 * wake.h
 *	  Work that arrives by changes of data: whoever commits one sees to it that a worker looks.
 *
 * Include after postgres.h.
 */
#ifndef LLMAPP_WAKE_H
#define LLMAPP_WAKE_H

extern void RegisterWakeUps(void);   /* at module load */
extern void RequestWakeMemory(void); /* in the postmaster, when preloaded */

/*
 * When the transaction commits there is work for a job of this kind on this object, which runs as owner;
 * kind is a literal.  Again in the same transaction it costs little.
 */
extern void WakeAtCommit(const char *kind, Oid object, Oid owner);

/* ---- in the worker ---- */

/* From here on this worker is who is woken for an object. */
extern void AnswerFor(const char *kind, Oid object);
/* Whatever was committed before is visible to what is looked at after this call. */
extern void BeginLook(void);
extern bool HasBeenWoken(void); /* since the last look began */
/* How it went: all that was seen is done, so being woken since starts another worker; or not, so that waits a moment. */
extern void AnswerGiven(void);
extern void AnswerFailed(void);
/* Nobody answers any more; does nothing in a worker that never did. */
extern void StopAnswering(void);

#endif /* LLMAPP_WAKE_H */
