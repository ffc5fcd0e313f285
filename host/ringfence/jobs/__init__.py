"""Jobs: work that plugins have done later, once, by whichever instance of the fleet comes to it.

Enqueueing joins the caller's transaction, and a handler's writes are committed with the end of its job.
"""

from ringfence.jobs.board import JobBoard, JobService, Timetable, kind_of
from ringfence.jobs.job import Backoff, Job, JobError, JobFailed, JobHandler, Nothing, RunningJob
from ringfence.jobs.queue import CANCEL_CHANNEL, CHANNEL, JobQueue, Order, Queue
from ringfence.jobs.worker import Worker

__all__ = [
    "CANCEL_CHANNEL",
    "CHANNEL",
    "Backoff",
    "Job",
    "JobBoard",
    "JobError",
    "JobFailed",
    "JobHandler",
    "JobQueue",
    "JobService",
    "Nothing",
    "Order",
    "Queue",
    "RunningJob",
    "Timetable",
    "Worker",
    "kind_of",
]
