/*
 * gpu.h
 *	  The GPU of this training: chosen and opened by its worker, or why it trains on the CPU.
 *
 * Include after postgres.h.
 */
#ifndef LLMAPP_GPU_H
#define LLMAPP_GPU_H

#include "training.h"

struct cuda_device;

/*
 * Before networks are planned: open what was asked for.  cuda and cuda:N wait for a place; auto takes the CPU when
 * anything stands against a GPU.  The device belongs to the current memory context.  False when the job
 * is to pause.
 */
extern bool ChooseDevice(const TrainingSpec *spec, const train_params *params);
/* For the next network that is planned; NULL: the CPU, as always in a session. */
extern struct cuda_device *TrainingGpu(void);
/* Bytes of it that this job may use. */
extern Size GpuMemory(void);
/* Networks planned from now on are the CPU's, for this reason; false: the GPU was asked for. */
extern bool DeclineGpu(const char *reason);
extern const char *DeviceName(void); /* cpu or cuda:N */

#endif /* LLMAPP_GPU_H */
