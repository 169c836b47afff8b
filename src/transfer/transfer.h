/*
 * transfer.h
 *	  Models from files on the server, as jobs of kind "import", and back to them.
 *
 * Include after postgres.h.
 */
#ifndef LLMAPP_TRANSFER_H
#define LLMAPP_TRANSFER_H

#include "../job/job.h"

extern bool RunImport(const ClaimedJob *claimed);

#endif /* LLMAPP_TRANSFER_H */
