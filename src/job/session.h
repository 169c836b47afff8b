/*
 * session.h
 *	  The session of a worker: its settings, and what interrupts it.
 *
 * Include after postgres.h.
 */
#ifndef LLMAPP_SESSION_H
#define LLMAPP_SESSION_H

/* Handler of SIGTERM: interrupts the job like a cancel, but JobTerminating() is true from then on. */
extern void HandleTermination(SIGNAL_ARGS);
extern void ConfigureSession(void);

#endif /* LLMAPP_SESSION_H */
