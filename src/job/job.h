/*
 * job.h
 *	  Jobs: submit, run in a background worker, watch, stop, resume.
 *
 * States: queued -> running -> succeeded | failed | cancelled; running -> paused or
 * interrupted -> queued.  Phases of running: loading, training, evaluating, saving.
 * A running job is alive exactly while its worker holds the job's session lock; a slot
 * in shared memory shows its progress and takes requests to pause.
 */
#ifndef LLMAPP_JOB_H
#define LLMAPP_JOB_H

#define JOB_SLOTS 32			/* most jobs running at once in a cluster */

extern void InitJobs(void);		/* at module load: callbacks, and the launcher when preloaded */

#endif							/* LLMAPP_JOB_H */
