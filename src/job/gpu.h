/*
 * gpu.h
 *	  The GPU of this job: chosen and opened by its worker, or why it runs on the CPU.
 *
 * Include after postgres.h.
 */
#ifndef LLMAPP_GPU_H
#define LLMAPP_GPU_H

struct cuda_device;

/*
 * Before networks are planned: open what was asked for, auto, cpu, cuda or cuda:N, NULL: cpu.  cuda and cuda:N wait
 * for a place; auto takes the CPU when anything stands against a GPU, such as the reason that the caller gives, or
 * NULL.  The device belongs to the current memory context.  False when the job is to pause.
 */
extern bool ChooseDevice(const char *device, const char *against_auto);
/* NULL, or why a GPU is not worth being started for so many multiplications. */
extern const char *TooLittleForGpu(double multiplications);
/* For the next network that is planned; NULL: the CPU, as always in a session. */
extern struct cuda_device *JobGpu(void);
/* Bytes of it that this job may plan with. */
extern Size GpuMemory(void);
/* From now on so many are left for scratch of operations, if not more were before. */
extern void LeaveGpuScratch(Size bytes);
/*
 * These bytes are more than that: networks planned from now on are the CPU's, ERROR where the GPU was asked for.
 * what: "this model"; hint: what would fit, or NULL.
 */
extern void LackGpuMemory(const char *what, Size bytes, const char *hint);
extern const char *DeviceName(void); /* cpu or cuda:N */

#endif /* LLMAPP_GPU_H */
