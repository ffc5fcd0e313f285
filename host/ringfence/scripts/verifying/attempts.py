"""What `verify` tries inside a sandbox: scripts that print what they achieved, and nothing if that is nothing."""

from __future__ import annotations

CONNECT = """
import socket
for address in (('127.0.0.1', {port}), ('169.254.169.254', 80), ('192.0.2.1', 443)):
    try:
        socket.create_connection(address, 1)
        print('reached', *address)
    except OSError:
        pass
"""
CALLS = """
import ctypes, os
libc = ctypes.CDLL(None)
numbers = {'x86_64': (321, 298, 425, 250, 101), 'aarch64': (280, 241, 425, 219, 117)}[os.uname().machine]
for name, number in zip(('bpf', 'perf_event_open', 'io_uring_setup', 'keyctl', 'ptrace'), numbers):
    if libc.syscall(number, 0, 0, 0, 0, 0) >= 0:
        print(name)
if libc.unshare(0x10000000) == 0:
    print('user namespace')
"""
CLAIMS = """
import ctypes, os, resource
libc = ctypes.CDLL(None, use_errno=True)
before = resource.getrlimit(resource.RLIMIT_CORE)
for pid in (1, os.getppid()):
    for name, change in (
        ('policy', lambda: os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))),
        ('processors', lambda: os.sched_setaffinity(pid, os.sched_getaffinity(0))),
        ('priority', lambda: os.setpriority(os.PRIO_PROCESS, pid, 19)),
        ('limit', lambda: resource.prlimit(pid, resource.RLIMIT_CPU, (1000, 1000))),
    ):
        try:
            change()
            print(name, 'of', pid)
        except OSError:
            pass
try:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
except OSError:
    pass
if resource.getrlimit(resource.RLIMIT_CORE) != before:
    print('core dumps')
"""
KERNEL_MEMORY = """
import ctypes, fcntl, os, socket
libc = ctypes.CDLL(None, use_errno=True)
def size(end):
    return end.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
end = socket.socketpair()[0]
before = size(end)
end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2 * before)
if size(end) != before:
    print('a larger socket')
try:
    fcntl.fcntl(os.pipe()[0], 1031, 1 << 20)
    print('a larger pipe')
except OSError:
    pass
if libc.syscall(444, ctypes.byref(ctypes.c_uint64(1)), ctypes.c_size_t(8), 0) >= 0:
    print('a Landlock ruleset')
try:
    os.setxattr('.', 'system.posix_acl_default', b'\\x02\\0\\0\\0')
    print('an access control list')
except OSError:
    pass
"""
WATCHES = """
import ctypes, fcntl, os
libc = ctypes.CDLL(None, use_errno=True)
if libc.inotify_init1(0) >= 0:
    print('inotify')
usr = os.open('/usr/bin', os.O_RDONLY)
try:
    fcntl.fcntl(usr, fcntl.F_NOTIFY, fcntl.DN_ACCESS)
    print('dnotify')
except OSError:
    pass
try:
    fcntl.flock(os.open('{held}', os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print('the same lock')
except OSError:
    pass
"""
FORKS = """
import os, time
count = 1
try:
    while count < 100:
        if os.fork() == 0:
            time.sleep(100)
        count += 1
except OSError:
    pass
print(count)
"""
HOARD = """
import os, time
for _ in range(8):
    if os.fork() == 0:
        block = bytearray(12 * 2**20)
        time.sleep(100)
time.sleep(100)
"""
KERNEL_FILES = """
import os
for top in ('/proc', '/sys'):
    for directory, names, files in os.walk(top):
        # Descriptors of its own, and the same process once more for each thread.
        names[:] = [name for name in names if name not in ('fd', 'task')]
        for name in files:
            try:
                opened = os.open(os.path.join(directory, name), os.O_WRONLY | os.O_NONBLOCK)
            except OSError:
                continue
            # A wrapper may cover files by the null device.
            if os.fstat(opened).st_rdev != os.stat('/dev/null').st_rdev:
                print(os.path.join(directory, name))
            os.close(opened)
"""

HIDDEN = """
import socket
metadata = ('a9fe', 'a9fe', '5601:5601', '169.254.169.254')
for form in ('64:ff9b::{3}', '64:ff9b:1::{3}', '2002:{0}:{1}::1', '2001:0:{0}:{1}::1', '2001::{2}', '2a00::5efe:{3}',
             '2a00::200:5efe:{3}', '::{3}', '::ffff:{3}', '::ffff:0:{3}', 'fec0::1', 'fd00:ec2::254'):
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as end:
        try:
            end.connect((form.format(*metadata), 80))
            end.settimeout(2)
            end.send(b'?')
            end.recv(1)
            print('answered by', form.format(*metadata))
        except TimeoutError:
            # What is refused is told to be at once.
            print('sent to', form.format(*metadata))
        except OSError:
            pass
"""

SPELLINGS = """
import base64, html, json, os, urllib.parse
token = os.environ['TOKEN']
print(repr(token), json.dumps(token), urllib.parse.quote(token, ''), urllib.parse.quote_plus(token), html.escape(token))
print(base64.b64encode(b'user:' + token.encode()).decode())
"""

QUEUES = """
import os, socket, time
def fill():
    kept = []
    for _ in range(200):
        kept += socket.socketpair()
        kept[-1].setblocking(False)
        try:
            while True:
                kept[-1].send(bytes(65536))
        except OSError:
            pass
    time.sleep(1000)
for _ in range(2):
    if os.fork() == 0:
        fill()
time.sleep(1000)
"""
ECLIPSED = """
import ctypes, os, platform, threading, time
libc = ctypes.CDLL(None)
exit = {'x86_64': 60, 'aarch64': 93}[platform.machine()]  # Of this thread alone.
libc.prctl(15, b'\\rVmRSS: -9999999')  # PR_SET_NAME
def take(had):
    block = bytearray(16 << 20)
    had.set()
    time.sleep(1000)
for _ in range(6):
    if os.fork() == 0:
        had = threading.Event()
        threading.Thread(target=take, args=[had]).start()
        had.wait()
        libc.syscall(exit, 0)
time.sleep(1000)
"""
