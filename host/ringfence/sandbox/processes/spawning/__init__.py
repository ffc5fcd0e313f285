"""The spawner: a small process that leaves root, then starts children on request. `spawner_main` is its program.

Why a process of its own:

- A real drop. One that serves a single identity leaves root once, irrevocably, with no supplementary groups. One
  whose children each leave for a uid of their own (`leaving`) has a uid that no run has, and of root's capabilities
  only those to change uid and gid and to kill; no child has them any more when its program is there. Without root, it
  has them in a user namespace alone, which it joins first (`subordinates`).
- A steady parent. The wrapper dies with its parent, and to the kernel "parent" means the *thread* that started it: a
  thread of the host's pool that ends would take its sandboxes along. This process has one thread.
- Speed. The host is large and threaded, and forking it is slow; this process is small, and a wrapper is started without
  forking even that (`starting`).
- One place where the claims of a run on the machine are made the lowest (`lower_claims`), whatever the supervisor's
  are. This process keeps ordinary ones, in a session of its own, so that runs cannot starve it.

It is not trusted with anything: requests come from the host over a socket pair, and replies are a pidfd and a status.
When the host goes, the socket closes, this process ends, and with it every sandbox. Nothing that happens to one request
ends it: what the kernel refuses (descriptors, processes, memory) is told to the one that asked.

That everything ends with it is the kernel's doing: this process is the init of a PID namespace (pid_namespaces(7)), so
whatever descends from it is killed when it ends, however and at whatever moment that is. A wrapper's own "die with my
parent" (PR_SET_PDEATHSIG) comes too late for that: it is said by a wrapper that runs, and by the wrapper's init only
when all else is made; whose parent ends before hears of nothing. Where no PID namespace can be had (to a supervisor
that is not root, user namespaces may be closed while they are open to the wrapper), this process adopts orphans
instead, and kills those; if it is killed itself while a wrapper starts, that one may stay behind.

Request, one packet: JSON `{"argv", "env", "fds", "identity", "limits", "latch"}`, and by SCM_RIGHTS the reply socket,
the executable, the lock of the identity's lease, and what the child gets under the numbers in "fds". The lock is kept
until the child has been reaped. With "latch", the program first of all reads what it has under that number to its end,
and is started in a quicker way, which takes no "limits". With "clean", the child ends and removes what its identity has
left, and says so by its status. Replies on the reply socket, one packet each: `P` with a pidfd when the program runs,
then `X <wait status>`; or `E <errno>`. There are no pids in them: ours are not the host's.
"""
