"""What the segmentation node says of itself on /diagnostics."""

from collections.abc import Mapping
from functools import partial
import math
from pathlib import Path
import resource
import sys

from diagnostic_msgs.msg import DiagnosticStatus
from univseg_core.inference.domain_decision import Decision
from univseg_core.inference.segmenter import Segmenter
from univseg_core.models.domain_evidence import HOLDS_FROM, HOLDS_TO
from univseg_ros.findings import Finding, StatusPublisher
from univseg_ros.statistics import Summary, WINDOW

TROUBLE = {
    'undecodable': 'could not be decoded',
    'failed': 'failed in segmentation',
    'stale': 'were too old',
}
"""The outcomes of a frame that somebody should mend, in words."""


QUIET = f'no frame was segmented in the last {WINDOW:.0f} s'

Diagnostics = partial(StatusPublisher, quiet=QUIET)


def frame_findings(summary: Summary, timeout: float) -> list[Finding]:
    """
    Return what the recent frames tell; `timeout` in seconds is too long for one, 0 never.

    Trouble is a warning where some frames got through, an error where none did.
    """
    findings = []
    published = summary.counts['published']
    for outcome, words in TROUBLE.items():
        if summary.counts[outcome]:
            findings.append(Finding(
                DiagnosticStatus.WARN if published else DiagnosticStatus.ERROR,
                f'{summary.counts[outcome]} frames of the last {WINDOW:.0f} s {words}: '
                f'{summary.reasons[outcome]}'))
    if timeout and summary.in_work > timeout:
        findings.append(Finding(DiagnosticStatus.ERROR,
                                f'one frame has been in work for {summary.in_work:.0f} s'))
    if published:
        findings.append(Finding(DiagnosticStatus.OK,
                                f'segmenting {summary.output_rate:.1f} frames a second'))
    elif summary.counts['unwatched']:
        findings.append(Finding(DiagnosticStatus.OK,
                                'nobody subscribes to an active domain: nothing is computed'))
    return findings


def frame_values(summary: Summary, totals: Mapping[str, int]) -> dict[str, str]:
    """Return rates in Hz, times in ms and all counts since the node was activated."""
    values = {'input rate [Hz]': f'{summary.input_rate:.2f}',
              'output rate [Hz]': f'{summary.output_rate:.2f}'}
    for name, (median, percentile) in summary.times.items():
        name = name.replace('_', ' ')
        values[f'{name}, median [ms]'] = f'{1000 * median:.2f}'
        values[f'{name}, 95th percentile [ms]'] = f'{1000 * percentile:.2f}'
    for name, count in totals.items():
        values[f'frames {name}'] = str(count)
    for outcome, reason in summary.reasons.items():
        values[f'last frame {outcome}'] = reason
    return values


def model_values(segmenter: Segmenter, path: str, sha256: str) -> dict[str, str]:
    """Return which model runs where, and how good it was in validation."""
    miou = segmenter.card.miou or {}
    return {
        'model': Path(path).name,
        'model sha256': sha256,
        'domains': ', '.join(segmenter.domains),
        **{f'mIoU of {name} [%]': f'{100 * value:.1f}' for name, value in miou.items()},
        'device': segmenter.device,
        'backend': segmenter.backend,
        'precision': segmenter.precision,
        **{f'encoder by {name}, when compared [ms]': f'{value:.1f}'
           for name, value in segmenter.measured.items()},
    }


def place_values(decision: Decision) -> dict[str, str]:
    """Return what is decided of a camera's domain."""
    return {'domain': decision.domain or decision.state,
            'domain, probability': f'{decision.probability:.2f}',
            'unfamiliarity': f'{decision.unfamiliarity:.2f}',
            'domain, why': decision.why}


def place_finding(decision: Decision) -> list[Finding]:
    """Return what is to be known of it: why there are no masks."""
    if decision.state == 'undecided' and not math.isnan(decision.unfamiliarity):
        return [Finding(DiagnosticStatus.WARN, f'no masks: {decision.why}')]
    if decision.state != 'none':
        return []
    return [Finding(DiagnosticStatus.WARN, 'unlike anything that the model was trained on '
                    f'(unfamiliarity {decision.unfamiliarity:.2f}; 1 of 100 training images is '
                    'above 1): no masks')]


def size_finding(size: int | None, own_size: int | None) -> list[Finding]:
    """
    Return what is to be known of an inference size where images tell the domain.

    That is where it is beyond those of which the evidence was made, by the model's own; both in
    pixels, None where images keep their size.
    """
    if size is None or own_size is None:
        return []
    least, most = math.ceil(HOLDS_FROM * own_size), math.floor(HOLDS_TO * own_size)
    if least <= size <= most:
        return []
    return [Finding(DiagnosticStatus.WARN, f'the domain may be mistaken: it is told by images of '
                    f'{least} to {most} pixels, and the inference size is {size}: set '
                    'inference_size to one of these, or name active_domains')]


def memory_values(segmenter: Segmenter | None) -> dict[str, str]:
    """Return the memory that the process holds, and on a GPU the model's."""
    values = {}
    statm = Path('/proc/self/statm')
    if statm.exists():
        resident = int(statm.read_text().split()[1]) * resource.getpagesize()
        values['memory [MB]'] = f'{resident / 1e6:.0f}'
    torch = sys.modules.get('torch')
    if torch is not None and segmenter is not None and segmenter.device.startswith('cuda'):
        reserved = torch.cuda.memory_reserved(segmenter.device)
        values['GPU memory [MB]'] = f'{reserved / 1e6:.0f}'
    return values
