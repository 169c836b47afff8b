/*
 * checkpoint_file.c
 *	  Where a job keeps its checkpoint; what is in it is the business of what the job does.
 *
 * One file per job in $PGDATA/llmapp.  The name starts with pgsql_tmp, so base backups
 * leave it out.
 */
#include "postgres.h"

#include <unistd.h>

#include "miscadmin.h"

#include "job.h"

void
CheckpointPath(int64 job, char *path)
{
	snprintf(path, MAXPGPATH, LLMAPP_DIRECTORY "/pgsql_tmp.checkpoint.%u." INT64_FORMAT, MyDatabaseId, job);
}

bool
HasCheckpoint(int64 job)
{
	char path[MAXPGPATH];

	CheckpointPath(job, path);
	return access(path, F_OK) == 0;
}

void
RemoveCheckpoint(int64 job)
{
	char path[MAXPGPATH];
	char temporary[MAXPGPATH + 4];

	CheckpointPath(job, path);
	snprintf(temporary, sizeof(temporary), "%s.new", path);
	unlink(temporary);
	if (unlink(path) != 0 && errno != ENOENT)
		ereport(WARNING, (errcode_for_file_access(), errmsg("could not remove file \"%s\": %m", path)));
}
