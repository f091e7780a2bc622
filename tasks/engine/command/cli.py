"""The command line of a task: verbs, dotted options, config files, exit codes.

    if __name__ == "__main__":
        main(TextClassification)

Nothing here imports TensorFlow before a command has been understood, so that help and mistakes are
answered at once.
"""

import difflib
import errno
import inspect
import json
import re
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NoReturn, Union, get_args, get_origin

from jsonargparse import ArgumentParser, set_parsing_settings

from data.cells import readable
from data.errors import DataError
from tasks.engine.command.verbs import VERBS
from tasks.engine.config_file import as_argument, read_yaml
from tasks.engine.errors import ExportError, RunError, Stopped, UsageError
from tasks.engine.memory import keep_freed_memory
from tasks.engine.options import Config, ExportOptions, RunOptions, Train
from tasks.engine.quiet import quiet_imports
from tasks.engine.run import Run
from tasks.engine.task import Task
from zoo.errors import PresetError

# Of a recipe, what gives way to another option that the user gave, as it would overrule that.
_GIVE_WAY = {"train.batch_tokens": "train.batch_size"}

# What a machine, not the program, can refuse: no space, no permission, no such place.
_MACHINE_SAYS_NO = {
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM,
    errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EFBIG,
}  # fmt: skip


def main(task_class: type[Task], arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command that the arguments spell, and exits with its code."""
    with suppress(ValueError):  # not in the main thread
        # The first process of a container would not hear it otherwise.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _run(task_class(), list(sys.argv[1:] if arguments is None else arguments))
    except (UsageError, DataError, PresetError) as error:
        _fail(str(error))
    except (ExportError, RunError) as error:
        _fail(str(error), code=1)
    except Stopped as stopped:
        _end(f"stopped {stopped}; the same command goes on from there", 130)
    except KeyboardInterrupt:
        _end("interrupted; a run goes on from its last saved state", 130)
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output is gone
        sys.exit(1)
    except Exception as error:
        reason = _user_error_within(error) or _machine_refusal(error)
        if reason is None:
            raise
        _fail(reason)
    sys.exit(0)


def _run(task: Task, arguments: list[str]) -> None:
    verb, first, arguments = _verb(task, arguments)
    parser = _parser(task, verb)
    sections = _sections(task, verb)
    arguments = first + _configs_first(_joined(arguments, sections), task, sections)
    earlier: dict[str, Any] = {}
    if verb != "train" and not {"-h", "--help"} & set(arguments):
        plain = _without_questions(arguments)
        earlier = _options_of(task, parser.parse_args(plain).as_dict()["run"]["dir"])
        parser.set_defaults(
            {
                f"{name}.{key}": value
                for name in sections.keys() & earlier.keys()
                for key, value in earlier[name].items()
                # Requests need not be written as the training files were.
                if not (verb == "predict" and key in (*_HOW_FILES_ARE_WRITTEN, "on_bad_row"))
            }
        )
        if verb == "predict":
            parser.set_defaults({"data.on_bad_row": "answer"})
    if verb == "train":
        plain = _without_questions(arguments)
        options = parser.parse_args(plain).as_dict()
        if start_from := options["train"]["start_from"]:
            own = options["run"]["dir"]  # which has them, once it was begun
            begun = own is not None and Run(Path(own)).config_file.exists()
            option = "--run.dir" if begun else "--train.start_from"
            parent = _options_of(task, own if begun else start_from, option)["model"]
            parser.set_defaults({f"model.{name}": value for name, value in parent.items()})
        model = _config(task, parser.parse_args(plain).as_dict()).model
        given = set(parser.parse_args(plain, defaults=False).keys())
        recipe = task.recipe(model)
        parser.set_defaults(
            {name: value for name, value in recipe.items() if _GIVE_WAY.get(name) not in given}
        )
    asked = parser.parse_args(arguments)
    config = _config(task, earlier | asked.as_dict())
    if verb != "predict" and getattr(config.data, "on_bad_row", None) == "answer":
        raise UsageError("--data.on_bad_row answer: is for predict; give error or skip")

    keep_freed_memory()
    with quiet_imports():
        module = import_module(f"tasks.engine.command.{verb}")
    module.do(task, config, asked)


def _config(task: Task, options: dict[str, Any]) -> Config:
    """The options of all sections as their dataclasses."""
    sections = _sections(task, "train")
    plain = {name: dict(options.get(name) or {}) for name in sections}
    _require_text(plain)
    parts: dict[str, Any] = {name: kind(**plain[name]) for name, kind in sections.items()}
    parts.setdefault("decode", None)
    return Config(**parts, plain={"task": task.name, **plain})


def _require_text(options: dict[str, dict[str, Any]]) -> None:
    """Refuses names of files that are not UTF-8: config, logs and report could not hold them."""
    for section, part in options.items():
        for key, value in part.items():
            for text in value if isinstance(value, list | tuple) else [value]:
                if isinstance(text, str) and readable(text) != text:
                    raise UsageError(
                        f"--{section}.{key} {readable(text)}: the name is not UTF-8; rename the "
                        "file or folder"
                    )


def _without_questions(arguments: list[str]) -> list[str]:
    """What of the arguments says how a command is to be done."""
    questions = ("-h", "--help", "--print_config")
    return [argument for argument in arguments if not argument.startswith(questions)]


def _options_of(task: Task, folder: str | None, option: str = "--run.dir") -> dict[str, Any]:
    """The config of the run in the folder that an option names, without what is no option now."""
    run = Run.existing(folder, option)
    run.require_task(task.name, option)
    known = {
        name: {field.name for field in fields(options)}
        for name, options in _sections(task, "train").items()
    }
    return {
        name: {key: value for key, value in part.items() if key in known[name]}
        for name, part in run.options().items()
        if name in known
    }


def _configs_first(arguments: list[str], task: Task, sections: dict[str, type]) -> list[str]:
    """`--config FILE`s before all options, which override them wherever they stand; cut down to the
    sections that the verb has, as a run's config has them all."""
    others = _sections(task, "train").keys() - sections.keys()
    configs, rest = [], []
    left = iter(arguments)
    for argument in left:
        if argument == "--config" and (path := next(left, None)) is not None:
            content = read_yaml(Path(path))
            _require_sections(task, path, content)
            kept = {name: part for name, part in content.items() if name not in others}
            configs += ["--config", as_argument(kept)]
        else:
            rest.append(argument)
    return configs + rest


def _require_sections(task: Task, path: str, content: dict[str, Any]) -> None:
    """Refuses a config file of another task, and values where options are expected."""
    if (made_for := content.get("task", task.name)) != task.name:
        raise UsageError(f"{path}: is for the task {made_for}, not {task.name}; name another file")
    for name in _sections(task, "train"):
        if name in content and not isinstance(content[name], dict):
            raise UsageError(
                f"{path}: {name} is {content[name]!r}, no section; write '{name}:' and below it "
                "one option a line, with blanks before"
            )


def _verb(task: Task, arguments: list[str]) -> tuple[str, list[str], list[str]]:
    """The verb, what is said by saying none, which a config file overrides, and the arguments:
    without a verb, it is a first run on the sample that also exports."""
    if arguments and arguments[0] in VERBS:
        return arguments[0], [], arguments[1:]
    if arguments and arguments[0] in ("-h", "--help"):
        print(_help(task))
        sys.exit(0)
    if arguments and not arguments[0].startswith("-"):
        raise UsageError(f"no verb '{arguments[0]}'; the verbs are {', '.join(VERBS)}")
    first_run = ["--data.train", "sample", "--export.dir", f"saved_models/{task.name}"]
    return "train", [*first_run, *task.first_run], arguments


def _help(task: Task) -> str:
    module = inspect.getdoc(sys.modules[type(task).__module__]) or ""
    verbs = "\n".join(f"  {name:<10}{verb.does}" for name, verb in VERBS.items())
    return (
        f"usage: python -m tasks.{task.name} [VERB] [OPTIONS]\n\n{module}\n\nverbs:\n{verbs}\n\n"
        "Without a verb: train on the sample data, evaluate, export to "
        f"saved_models/{task.name}, and say how to serve it.\n\n"
        f"`python -m tasks.{task.name} VERB --help` lists a verb's options; every verb takes "
        "--config FILE.yaml\nand --print_config; options override the file, wherever they stand."
    )


_HOW_FILES_ARE_WRITTEN = ("format", "header", "separator", "quoting")  # options of data
_KINDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    list[int]: "whole numbers, such as 32 64",
    list[float]: "numbers, such as 0.1 0.9",
    list[str]: "texts, such as a b",
}


class _Parser(ArgumentParser):
    """Mistakes become one line, without the usage."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        message = " ".join(message.split()).removeprefix('Parser key "config": ')
        if (hint := "; --help lists the options") in message:  # of a config file, said already
            raise UsageError(message.split(hint)[0])
        wrong = re.match(r'Parser key "([\w.]+)".* (?:Given|Got) value: (.*)$', message)
        if wrong:
            action = next((a for a in self._actions if a.dest == wrong[1]), None)
            raise UsageError(f"--{wrong[1]} {wrong[2]}: {_expected(action)}")
        unknown = re.match(r"unrecognized arguments: (\S+)", message)
        if unknown:
            options = [option for action in self._actions for option in action.option_strings]
            close = difflib.get_close_matches(unknown[1].split("=")[0], options, 1)
            hint = f"did you mean {close[0]}?" if close else "--help lists the options"
            raise UsageError(f"no option {unknown[1]}; {hint}")
        raise UsageError(f"{message}; --help lists the options")


def _expected(action: Any) -> str:
    """What an option takes, in words."""
    kind = getattr(action, "_typehint", None)
    parts = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    words: list[str] = []
    for part in parts:
        if get_origin(part) is Literal:
            words += [str(value) for value in get_args(part)]
        elif part is type(None):
            words.append("null")
        else:
            words.append(_KINDS.get(part, str(part)))
    return f"not {words[0]}" if len(words) == 1 else f"not one of {', '.join(words)}"


def _parser(task: Task, verb: str) -> _Parser:
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = _Parser(
        allow_abbrev=False,
        prog=f"python -m tasks.{task.name} {verb}",
        description=f"{_first_line(task)} Verb: {VERBS[verb].does}.",
    )
    parser.add_argument("--config", action="config", help="a YAML file of these options")
    parser.add_argument(
        "--task", choices=[task.name], default=task.name, help="the task a config file is for"
    )
    if verb == "predict":
        parser.add_argument(
            "--input",
            nargs="+",
            default=None,
            help=task.requests,
        )
        parser.add_argument(
            "--echo",
            nargs="+",
            help="columns of the input that each answer repeats, such as an id; of lines, keys of "
            "those that are JSON; as input_NAME where answers have a NAME of their own",
        )
        parser.add_argument(
            "--row",
            type=bool,
            default=False,
            help="whether each answer says which row it is of: the `input`, and the `row` in it",
        )
        parser.add_argument(
            "--output",
            help="write the answers into this file instead: a table if it ends in .csv, else JSON "
            "lines",
        )
    for section, options in _sections(task, verb).items():
        parser.add_class_arguments(options, section)
    return parser


def _first_line(task: Task) -> str:
    return (inspect.getdoc(type(task)) or "").splitlines()[0]


def _sections(task: Task, verb: str) -> dict[str, type]:
    sections = {
        "data": task.data_options,
        "model": task.model_options,
        "train": Train,
        "run": RunOptions,
        "export": ExportOptions,
    }
    if task.decode_options:
        sections["decode"] = task.decode_options
    return {name: options for name, options in sections.items() if name in VERBS[verb].sections}


def _joined(arguments: list[str], sections: dict[str, type]) -> list[str]:
    """The arguments, with `--NAME=VALUE` in two where more may follow, and with the values of
    options that take several (`--data.train a b`) as the one that jsonargparse reads."""
    several = {
        f"--{section}.{field.name}": "| str" in str(field.type)
        for section, options in sections.items()
        for field in fields(options)
        if "list[" in str(field.type)
    }
    joined: list[str] = []
    rest = list(arguments)
    while rest:
        option, equals, value = rest.pop(0).partition("=")
        if option not in (*several, "--config", "--input", "--echo"):
            joined.append(option + equals + value)
            continue
        joined.append(option)
        values = [value] if equals else []
        while rest and not rest[0].startswith("--") and (option != "--config" or not values):
            values.append(rest.pop(0))
        joined += [_list(values, several[option])] if values and option in several else values
    return joined


def _list(values: list[str], may_be_one: bool) -> str:
    """Several values, or one with commas, as a list that jsonargparse reads.

    Args:
        may_be_one: whether the option also takes a text, which is then left as it is if it is one
            value, as tasks know best where it is to be cut.
    """
    if len(values) == 1:
        with suppress(ValueError):
            if values[0] == "null" or isinstance(json.loads(values[0]), list):
                return values[0]
        if may_be_one:
            return values[0]
        parts = [part.strip() for part in values[0].split(",")]
        values = parts if all(parts) else values
    else:  # "0.1, 0.9" without quotes
        values = [value.rstrip(",") or value for value in values]
    return as_argument(values)


def _user_error_within(error: BaseException) -> str | None:
    """A mistake in streamed data, which tf.data hands on as text inside an error of its own."""
    found = re.search(r"\bDataError: (.+)", str(error))
    return found[1] if found else None


def _machine_refusal(error: BaseException) -> str | None:
    """What to tell the user when the machine refused: a full disk, a read-only folder, ..."""
    if isinstance(error, OSError) and error.errno in _MACHINE_SAYS_NO:
        where = f"{error.filename}: " if error.filename else ""
        mend = "free space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "name another path"
        return f"{where}{error.strerror or error}; {mend}"
    if "No space left on device" in str(error):  # as TensorFlow and HDF5 have it
        return "the disk is full; free space and give the same command again to go on"
    return None


def _fail(message: str, code: int = 2) -> NoReturn:
    _end(f"error: {' '.join(message.split())}", code)


def _end(message: str, code: int) -> NoReturn:
    with suppress(OSError):  # ^C ends who reads it, too; the code says it as well
        print(message, file=sys.stderr)
    sys.exit(code)
