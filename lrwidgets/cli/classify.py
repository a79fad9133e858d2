"""`lrwidgets classify`: sort the particles of a run into classes of the body at fixed poses."""

from argparse import Namespace
from dataclasses import replace

from lrcore import io
from lrcore.classification.class_number import ClassNumberCurve, held_out_class_number
from lrcore.classification.classify import classify as run_classification
from lrcore.classification.fit import ClassAssignment
from lrcore.classification.result import Classification
from lrcore.classification.settings import ClassificationSettings, check_settings
from lrcore.compute.backend import Backend, get_backend
from lrcore.errors import InputError
from lrcore.io.paths import create_files_or_clean_up
from lrcore.records import Progress, Step
from lrcore.refinement.job import Job
from lrcore.refinement.window_cache import WindowCache
from lrwidgets.cli.printer import Printer
from lrwidgets.cli.run_lookup import find_node
from lrwidgets.export.class_files import class_file_names, class_summary, write_class_files
from lrwidgets.session.loading import table_suffix
from lrwidgets.session.session import Session


def classify(arguments: Namespace) -> None:
    """Classify the particles of an iteration, and write maps, particles and a summary."""
    printer, numbers = Printer(arguments.json), sorted(set(arguments.classes))
    if arguments.maps and len(numbers) > 1:
        raise InputError("--maps: needs one number of --classes, that of the maps")
    settings = ClassificationSettings(
        numbers[0], arguments.resolution, arguments.empty_class, arguments.annealing, arguments.max_iterations,
        arguments.starts, arguments.switching, arguments.seed,
    )  # fmt: skip
    with Session.open(arguments.run, images=arguments.images, write=False) as session:
        node = find_node(session, arguments.run, arguments.iteration)
        job, last = session.job_of(node), session.load_step(node.id)[1]
        first = session.load_step(session.path()[0].id)[1]
    for number in numbers:
        check_settings(replace(settings, classes=number), job.particles)
    maps = [io.read_volume(path) for path in arguments.maps]
    names = class_file_names(numbers[-1], table_suffix(job.particles))
    backend = replace(get_backend(arguments.backend, arguments.threads), windows=WindowCache())
    with create_files_or_clean_up(arguments.out, names, arguments.overwrite) as folder:
        if len(numbers) > 1:
            curve = _compare_numbers(printer, (job, first, last), numbers, settings, backend)
            settings = replace(settings, classes=curve.chosen)
        for event in run_classification(job, first, last, settings, backend, maps or None):
            if isinstance(event, Progress):
                printer.show_progress(event)
            elif isinstance(event, ClassAssignment):
                _print_assignment(printer, event)
            else:
                result: Classification = event
        printer.close()
        count = write_class_files(folder, job, last, result)
        sizes = {str(name): int(size) for name, size in zip(_names(result), result.sizes, strict=True)}
        printer.report(class_summary(result), "classes", sizes=sizes, converged=result.converged)
        printer.report_file(arguments.out, f"{count} files", files=count)


def _compare_numbers(
    printer: Printer,
    steps: tuple[Job, Step, Step],
    numbers: list[int],
    settings: ClassificationSettings,
    backend: Backend,
) -> ClassNumberCurve:
    """Compare numbers of classes by held-out images, and print the curve."""
    for event in held_out_class_number(*steps, numbers, settings, backend):
        if isinstance(event, Progress):
            printer.show_progress(event)
        else:
            curve = event
    printer.close()
    lines = [
        f"{number:3d} classes: {gain:+.2f} ± {error:.2f} in log-likelihood per held-out image"
        for number, gain, error in zip(curve.classes, curve.gain, curve.error, strict=True)
    ]
    text = "\n".join([*lines, curve.sentence])
    printer.report(text, "class_number", classes=curve.classes, gain=curve.gain, error=curve.error, chosen=curve.chosen)
    return curve


def _print_assignment(printer: Printer, found: ClassAssignment) -> None:
    """Print the line of an iteration."""
    shares = " ".join(f"{100 * share:.0f}" for share in found.shares)
    printer.report(
        f"start {found.start}, iteration {found.iteration:2d}: {100 * found.switched:5.1f} % changed their class, "
        f"log-likelihood {found.log_likelihood:.3f}, shares {shares} %",
        "class_iteration",
        start=found.start,
        iteration=found.iteration,
        switched=found.switched,
        log_likelihood=found.log_likelihood,
        temperature=found.temperature,
        shares=found.shares,
    )


def _names(result: Classification) -> list[int]:
    """Return the numbers of the classes, 0 for the empty one."""
    return [*range(1, result.settings.classes + 1), *([0] if result.settings.empty_class else [])]
