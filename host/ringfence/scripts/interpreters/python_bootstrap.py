"""Runs inside the sandbox as the interpreter's program: set limits, wait, then run the script.

It is trusted, and kept small.

It needs no module that is not there anyway until the script has started, since each import is time that
every run pays; while it waits for a start that has not come yet, it loads what scripts commonly need.

A script is a `__main__` module with `context` as a global. If it defines `main` with a parameter, that is
called with the context, and what it returns is the run's value; otherwise the value is the global `result`,
if there is one that could be JSON. A script that asks whether it is `__main__`, or that names its `main` where it does
not define it, calls that itself, unless it takes a `context`.
"""

import gc
import os
import sys

PAYLOAD, CHANNEL, BOOTSTRAP = 3, 4, 5

IDLE_SECONDS = 0.25
"""How long nobody must have wanted this sandbox before it loads more than every script needs: on a busy host,
where it is wanted at once, that would be work which many scripts have no use for.
"""


def limit(text: str) -> None:
    """Set the limits of `NAME=soft:hard,…` for good."""
    if not text:
        return
    import resource

    for setting in text.split(","):
        name, _, values = setting.partition("=")
        soft, _, hard = values.partition(":")
        resource.setrlimit(getattr(resource, name), (int(soft), int(hard)))


def wait() -> None:
    """Wait for the start; use the time, if there is any."""
    os.set_blocking(CHANNEL, False)
    try:
        go = os.read(CHANNEL, 16)
    except BlockingIOError:
        import select

        if not select.select([CHANNEL], [], [], IDLE_SECONDS)[0]:
            import json  # noqa: F401
            import linecache  # noqa: F401
            import traceback  # noqa: F401

        os.set_blocking(CHANNEL, True)
        go = os.read(CHANNEL, 16)
    os.set_blocking(CHANNEL, True)
    if not go:
        os._exit(125)


def take() -> tuple[bytes, list[str]]:
    """Set the caller's variables; the context, and the script's path with its arguments."""
    size = os.fstat(PAYLOAD).st_size
    data = os.pread(PAYLOAD, size, 0)
    while len(data) < size:
        data += os.pread(PAYLOAD, size - len(data), len(data))
    os.close(PAYLOAD)
    head, _, rest = data.partition(b"\n")
    variables, words, context = map(int, head.split())
    for variable in rest[:variables].split(b"\0")[:-1]:
        name, _, value = variable.partition(b"=")
        os.environb[name] = value
    named = rest[variables : variables + words].decode().split("\0")[:-1]
    return rest[variables + words : variables + words + context], named


def read(path: str) -> bytes:
    """The script's source."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        source = os.read(descriptor, size)
        while len(source) < size:
            source += os.read(descriptor, size - len(source))
    finally:
        os.close(descriptor)
    return source


def give(value: object) -> None:
    """Send the value to the supervisor as JSON; a value that is not JSON is the script's error."""
    import json

    try:
        text = json.dumps(value, allow_nan=False)
    except ValueError:
        # A value with one number that is none is not worth less for that: it is null, as JavaScript has it.
        text = json.dumps(finite(value), allow_nan=False)
    data = memoryview(text.encode())
    while data:
        data = data[os.write(CHANNEL, data) :]


def finite(value: object) -> object:
    """The value with null for numbers that are not finite, which JSON does not have."""
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(one) for one in value]
    # Neither equals itself, nor is the difference of two infinities a number.
    return None if isinstance(value, float) and value - value != 0 else value


def widen() -> None:
    """Let what the interpreter has beside its standard library be imported, as its first line has it on the host."""
    import site

    sys.path += [path for path in site.getsitepackages() if path not in sys.path]


def complain(path: str) -> None:
    """Show the current exception as Python does, without the lines of this file."""
    import traceback

    kind, error, trace = sys.exc_info()
    while trace is not None and trace.tb_frame.f_code.co_filename != path:
        trace = trace.tb_next
    traceback.print_exception(kind, error, trace)


def run(context: bytes, words: list[str]) -> object:
    """Run the script in `__main__` and return its value."""
    module = type(sys)("__main__")
    sys.modules["__main__"] = module
    sys.argv = words
    path = words[0]
    source = read(path)
    if source.startswith(b"#!"):
        widen()
    given = None
    if context:
        import json

        given = json.loads(context)
    names = module.__dict__
    names["context"] = given
    names["__file__"] = path
    exec(compile(source, path, "exec", dont_inherit=True), names)  # noqa: S102
    main = names.get("main")
    first = parameter(main)
    if first is None or (first != "context" and starts_itself(source)):
        return left(names.get("result"))
    value: object = main(context=given) if first == "*context" else main(given)  # type: ignore[misc]
    if hasattr(value, "__await__"):
        import asyncio

        async def awaited() -> object:
            return await value  # type: ignore[misc]

        value = asyncio.run(awaited())
    return value


def left(result: object) -> object:
    """The value that a script has left as `result`: many call something of their own so, which is nobody's value."""
    if result is None or isinstance(result, dict | list | tuple | str | int | float):
        return result
    sys.stderr.write(f"`result` is a {type(result).__name__}, which is no JSON, and is not read\n")
    return None


def parameter(main: object) -> str | None:
    """The name of what `main` takes the context by, after `*` if only by that name; None if it takes none."""
    if not callable(main):
        return None
    code = getattr(main, "__code__", None)
    if type(main) is type(parameter) and code and code.co_argcount and not hasattr(main, "__wrapped__"):
        return str(code.co_varnames[0])
    # A method, a decorated function, an object that can be called: it costs time to know what that takes.
    import inspect

    try:
        parameters = list(inspect.signature(main).parameters.values())
    except (TypeError, ValueError):
        return None
    for one in parameters:
        if one.kind is one.KEYWORD_ONLY:
            if one.name == "context":
                return "*context"
        elif one.kind is not one.VAR_KEYWORD:
            return one.name
    return None


def starts_itself(source: bytes) -> bool:
    """Whether a script asks whether it is the program, or names its `main` where it does not define it."""
    if b"__main__" in source:
        return True
    import ast

    names = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name) and node.id == "main")
    return any(isinstance(name.ctx, ast.Load) for name in names)


def main() -> None:
    """The whole of a run."""
    limit(sys.argv[1])
    sys.path += sys.argv[2:]
    os.closerange(BOOTSTRAP, 64)
    os.set_inheritable(CHANNEL, False)
    os.chdir(os.environ["HOME"])
    # What was printed before a kill should be seen.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    wait()
    # What is there by now stays until the end: looking through it for garbage is a tenth of what a short run costs.
    gc.freeze()
    context, words = take()
    os.write(CHANNEL, b"started\n")
    try:
        value = run(context, words)
        if value is not None:
            give(value)
    except Exception:
        complain(words[0])
        sys.exit(1)


if __name__ == "__main__":
    main()
