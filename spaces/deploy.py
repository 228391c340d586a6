"""Put Iris on a Hugging Face Space, or bring one up to date.

    python spaces/deploy.py owner/iris                                            # the catalog's models, course id2223
    python spaces/deploy.py owner/iris --models smollm2-135m hf:owner/repo/m.gguf  # only these; the first one answers
    python spaces/deploy.py owner/iris --course bread --private --bucket owner/iris-state
    python spaces/deploy.py owner/iris --dry-run out/                             # only write the folder

The token is that of `hf auth login` or HF_TOKEN; it is not stored in the Space.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import space_folder
from space_folder import MARK, HubFile, Plan, SpaceError

from iris import catalog, courses, settings
from iris.errors import IrisError

if TYPE_CHECKING:
    from hub_session import Session

MOUNT = "/data"
LOG_LINES = 60
SETTLE_S = 30.0
"""How long the stage of before may still be told after a commit."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        plan = _plan(options)
        if options.dry_run:
            files = space_folder.write(options.dry_run, plan)
            print(f"{len(files)} files are in {options.dry_run}. Without --dry-run they go to {options.space}.")
            return 0
        return _deploy(options, plan)
    except IrisError as error:
        print(f"deploy: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def name(value: str) -> str:
    """``owner/name`` from the command line."""
    if not re.fullmatch(r"[\w-]+/[\w.-]{1,96}", value, re.ASCII):
        raise argparse.ArgumentTypeError(f"{value!r} has not the form owner/name")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("space", type=name, help="the Space, owner/name; made if there is none")
    parser.add_argument("--models", nargs="+", default=[], metavar="MODEL", help="only these; ids or hf: addresses")
    parser.add_argument("--course", default=settings.DEFAULT_COURSE, help="the course's id (%(default)s)")
    parser.add_argument("--title", default="", help="the Space's title (Iris and the course's)")
    parser.add_argument("--datasets", nargs="+", type=name, default=[], help="data sets to name in the Space's README")
    parser.add_argument("--private", action="store_true", help="only for its owner")
    parser.add_argument("--bucket", type=name, help=f"the storage bucket to mount at {MOUNT}, owner/name")
    parser.add_argument("--wait", type=float, default=40.0, metavar="MINUTES", help="until it runs (%(default)s)")
    parser.add_argument("--dry-run", type=Path, metavar="DIR", help="write the folder there and send nothing")
    return parser


def _plan(options: argparse.Namespace) -> Plan:
    course = space_folder.course(options.course)
    found = [space_folder.model(model) for model in dict.fromkeys(options.models)]
    files = tuple(file for _, file in found if file)
    title = options.title or f"Iris: {courses.load(course).title}"
    shown = files or tuple(file for spec in catalog.MODELS if (file := space_folder.model(spec.id)[1]))
    # Whether they are public, as preloading wants it, is not known without asking the Hub: a dry run takes it so.
    return Plan(title, course, tuple(model for model, _ in found), shown, files, tuple(options.datasets))


def _deploy(options: argparse.Namespace, plan: Plan) -> int:
    from hub_session import Session

    session = Session()
    space = str(options.space)
    session.own(space)
    there = _there(session, space)
    plan = replace(plan, preload=tuple(file for file in plan.preload if _public(session, file)))
    if options.bucket:
        bucket = session.call(f"finding the bucket {options.bucket}", session.api.bucket_info, options.bucket)
        if not bucket.private:
            raise SpaceError(
                f"The bucket {options.bucket} is public: everyone could read what students keep. Make it private "
                "in its settings, or name another one."
            )
    with tempfile.TemporaryDirectory(prefix="iris-space-") as beside:
        folder = Path(beside) / "space"
        names = space_folder.write(folder, plan)
        if not there:
            _create(session, space, options, plan)
        message = f"{'Update' if there else 'Add'} Iris for {plan.course.name}"
        files = {path.as_posix(): folder / path for path in names}
        done = session.upload(space, "space", files, message, tidy=True)
    if done.changed:
        print(f"{done.sent} files sent, {done.removed} removed, {done.same} as before.")
    else:
        print("The files are as they were.")
    changed = done.changed
    if there:
        changed |= _update(session, space, options, plan)
    address = f"{session.api.endpoint}/spaces/{space}"
    return _wait(session, space, address, options, done.commit if changed else "")


def _there(session: Session, space: str) -> bool:
    """Whether the Space exists; refused if it is something else than Iris."""
    if not session.call(f"finding {space}", session.api.repo_exists, space, repo_type="space"):
        return False
    about: Any = session.call(f"finding {space}", session.api.space_info, space)
    files = {entry.rfilename for entry in about.siblings or []}
    tags = (about.card_data.to_dict().get("tags") or []) if about.card_data else []
    if MARK in tags or files <= {".gitattributes", "README.md"}:  # the second: made a moment ago, nothing sent yet
        return True
    raise SpaceError(
        f"The Space {space} exists and is not Iris (its README has no tag {MARK}); it was left as it is. Choose "
        "another name, or delete it first."
    )


def _public(session: Session, file: HubFile) -> bool:
    """Whether everyone may fetch a model's file, after a look whether it is there at all."""
    about = session.call(f"finding {file.repo}", _info, session, file)
    if about is None:
        raise SpaceError(f"There is no repository {file.repo}, or the token may not see it. Choose another model.")
    wanted = session.call(
        f"finding {file.file}", session.api.get_paths_info, file.repo, [file.file], revision=file.revision
    )
    if not wanted:
        raise SpaceError(f"{file.repo} has no file {file.file} at revision {file.revision}. Choose another model.")
    public = not about.private and not about.gated
    if not public:
        print(
            f"{file.repo} is private or gated: set a secret HF_TOKEN in the Space's settings, so that it may read it."
        )
    # The Hub preloads the main branch, or a commit by its full name.
    return public and (file.revision == "main" or re.fullmatch(r"[0-9a-f]{40}", file.revision) is not None)


def _info(session: Session, file: HubFile) -> Any:
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return session.api.model_info(file.repo, revision=file.revision)
    except RepositoryNotFoundError:
        return None


def _create(session: Session, space: str, options: argparse.Namespace, plan: Plan) -> None:
    from huggingface_hub import Volume

    volumes = [Volume(type="bucket", source=options.bucket, mount_path=MOUNT)] if options.bucket else None
    session.call(
        f"making the Space {space}",
        session.api.create_repo,
        space,
        repo_type="space",
        space_sdk="gradio",
        private=options.private or None,
        space_variables=[{"key": key, "value": value} for key, value in plan.variables.items()],
        space_volumes=volumes,
        exist_ok=True,  # a first try whose answer was lost
    )


def _update(session: Session, space: str, options: argparse.Namespace, plan: Plan) -> bool:
    """Bring variables, volume and visibility of an existing Space up to date, after the files; whether any changed."""
    from huggingface_hub import Volume

    api, changed = session.api, False
    known = {
        key: entry.value for key, entry in session.call("reading variables", api.get_space_variables, space).items()
    }
    for key, value in plan.variables.items():
        if known.get(key) != value:
            session.call(f"setting {key}", api.add_space_variable, space, key, value)
            changed = True
    if "IRIS_MODELS" in known and "IRIS_MODELS" not in plan.variables:
        session.call("removing IRIS_MODELS", api.delete_space_variable, space, "IRIS_MODELS")
        changed = True
    if options.bucket:
        mounted = session.call("reading the volumes", api.get_space_runtime, space).volumes or []
        wanted = Volume(type="bucket", source=options.bucket, mount_path=MOUNT)
        if not any((volume.source, volume.mount_path) == (wanted.source, MOUNT) for volume in mounted):
            others = [volume for volume in mounted if volume.mount_path != MOUNT]
            session.call("mounting the bucket", api.set_space_volumes, space, [*others, wanted])
            changed = True
    if options.private:
        session.call("making it private", api.update_repo_settings, space, repo_type="space", private=True)
    return changed


def _wait(session: Session, space: str, address: str, options: argparse.Namespace, commit: str) -> int:
    """Follow the Space until it runs or fails. ``commit``: what it is to run; empty: whatever it runs now."""
    from huggingface_hub._space_api import INTERMEDIATE_SPACE_STAGES

    start, pause, shown, moved = time.monotonic(), 0.5, "", not commit
    while True:
        runtime: Any = session.call(f"asking how {space} does", session.api.get_space_runtime, space)
        stage = str(getattr(runtime.stage, "value", runtime.stage))
        if stage != shown:
            print(f"{space}: {stage.lower().replace('_', ' ')}", flush=True)
            shown = stage
        passed = time.monotonic() - start
        # Right after a commit the Hub may still tell the stage of before.
        moved = moved or stage in INTERMEDIATE_SPACE_STAGES or passed > SETTLE_S
        moved = moved or runtime.raw.get("sha") == commit
        if moved and stage not in INTERMEDIATE_SPACE_STAGES:
            return _told(session, space, address, stage)
        if passed > 60 * options.wait:
            print(f"It is still {shown.lower().replace('_', ' ')}. Look at {address} later.")
            return 0 if not options.wait else 1
        time.sleep(pause)
        pause = min(10.0, pause * 1.5)


def _told(session: Session, space: str, address: str, stage: str) -> int:
    """The last words: where it runs and what can be done next, or why it does not."""
    if stage == "RUNNING":
        print(f"Iris is running at {address}")
        print(f"Next: open it, ask a question, and give the class the address. Settings: {address}/settings")
        return 0
    if stage in ("PAUSED", "STOPPED", "SLEEPING"):
        print(f"{address} is {stage.lower()}. Start it there, or: hf spaces restart {space}")
        return 0
    building = stage in ("BUILD_ERROR", "CONFIG_ERROR", "NO_APP_FILE")
    print(f"{space} failed: {stage.lower().replace('_', ' ')}. The end of its log:", file=sys.stderr)
    try:
        lines = session.call("reading the log", _log, session, space, building)
    except SpaceError as error:
        lines = [f"{error}\n"]
    print("".join(lines[-LOG_LINES:]).rstrip(), file=sys.stderr)
    print(f"The whole log: {address}?logs={'build' if building else 'container'}", file=sys.stderr)
    return 1


def _log(session: Session, space: str, building: bool) -> list[str]:
    return [
        line if line.endswith("\n") else f"{line}\n" for line in session.api.fetch_space_logs(space, build=building)
    ]


if __name__ == "__main__":
    sys.exit(main())
