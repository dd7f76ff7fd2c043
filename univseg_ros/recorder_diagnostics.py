"""What the recorder says of itself, on ~/status and on /diagnostics."""

from collections import Counter, deque
from collections.abc import Mapping
import time

from diagnostic_msgs.msg import DiagnosticStatus
from univseg_core.recording.flight import MEMORY_FULL
from univseg_core.recording.judged import FAMILIAR, SURE, UNJUDGED
from univseg_core.recording.policies import KEPT, TOO_SOON
from univseg_core.recording.recorder import FAILED, QUEUE_FULL, REASONS, Recorder
from univseg_core.recording.status import Status
from univseg_ros.evidence import EVIDENCE
from univseg_ros.findings import Finding
from univseg_ros.raw_subscriptions import RawSubscriptions

WINDOW = 10.0
"""Seconds over which rates and losses are told."""

LOSSES = (QUEUE_FULL, FAILED)
"""Why images are not kept where somebody should mend something; a full disk is told by itself."""

JUDGED = (KEPT, SURE, FAMILIAR, TOO_SOON)
"""What images come to of which the model has said something, where any wait for that."""


class RecordingWatch:
    """Looks at an active recorder once a second; its counts are those of the last seconds."""

    def __init__(self, recorder: Recorder, cameras: RawSubscriptions, needs: str = '',
                 evidence: RawSubscriptions | None = None):
        self._recorder = recorder
        self._cameras = cameras
        self._needs = needs
        self._evidence = evidence
        self._began = time.monotonic()
        self._history: deque[tuple[float, Counter[str]]] = deque([(time.monotonic(), Counter())])

    def recent(self, status: Status) -> tuple[float, Counter[str]]:
        """Return over how many of the last seconds, and how many images came to each outcome."""
        now, totals = time.monotonic(), sum(status.counts.values(), Counter())
        self._history.append((now, totals))
        while self._history[0][0] < now - WINDOW and len(self._history) > 2:
            self._history.popleft()
        since, before = self._history[0]
        return max(now - since, 1e-3), totals - before

    def look(self, timeout: float) -> tuple[list[Finding], Mapping[str, str]]:
        """Return what was found, and the values to show; `timeout` is that of images, in s."""
        status = self._recorder.status()
        seconds, counts = self.recent(status)
        findings = []
        if status.trouble:
            findings.append(Finding(DiagnosticStatus.ERROR, status.trouble))
        if status.paused:
            findings.append(Finding(DiagnosticStatus.WARN, 'recording is paused'))
        for reason in LOSSES:
            if counts[reason]:
                findings.append(Finding(
                    DiagnosticStatus.WARN, f'{counts[reason]} images of the last '
                    f'{WINDOW:.0f} s are not kept: {REASONS[reason]}'))
        if counts[MEMORY_FULL]:
            findings.append(Finding(
                DiagnosticStatus.WARN, f'{counts[MEMORY_FULL]} images of the last {WINDOW:.0f} s '
                'were let go before their time: flight_memory has no room for flight_before '
                'seconds'))
        if counts[UNJUDGED] and not any(counts[outcome] for outcome in JUDGED):
            findings.append(Finding(
                DiagnosticStatus.WARN, f'none of {counts[UNJUDGED]} images was judged by the '
                'model: does the segmentation node get the same images?'))
        findings += [Finding(DiagnosticStatus.ERROR, reason) for reason in
                     self.silence(timeout).values()]
        if counts[KEPT]:
            findings.append(Finding(
                DiagnosticStatus.OK, f'recording {counts[KEPT] / seconds:.1f} images a second'))
        elif held := status.facts.get('held_seconds'):
            findings.append(Finding(DiagnosticStatus.OK, f'the last {held} s are in memory'))
        elif counts:
            findings.append(Finding(DiagnosticStatus.OK, 'no image was kept'))
        return findings, values(status, self._cameras.topics, counts, seconds)

    def silence(self, timeout: float) -> dict[str, str]:
        """
        Say by topic why images, or what the policy needs, do not come; `timeout` in s, 0: never.

        Where there are none at all, the key is the parameter that names them.
        """
        if not timeout or time.monotonic() - self._began <= timeout:
            return {}
        reasons = self._cameras.silence(timeout)
        if not self._cameras.topics and not reasons:
            reasons['topics'] = ('no camera publishes images: there is no topic of '
                                 'sensor_msgs/Image or CompressedImage')
        if self._evidence is not None:
            reasons |= self._evidence.silence(timeout)
            if not self._evidence.topics:
                reasons[f'{self._needs}_topics'] = EVIDENCE[self._needs].missing
        return reasons


def values(status: Status, topics: list[str], counts: Counter[str], seconds: float
           ) -> dict[str, str]:
    """Return the values of the diagnostics: those of /diagnostics in docs/recorder.md."""
    return {
        'topics': ', '.join(topics),
        'bag': status.bag,
        'file': status.file,
        'input rate [Hz]': f'{counts.total() / seconds:.2f}',
        'recording rate [Hz]': f'{counts[KEPT] / seconds:.2f}',
        'images seen': str(status.seen),
        f'images {KEPT}': str(status.count(KEPT)),
        **{f'images not kept, {reason}': str(status.count(reason)) for reason in REASONS},
        'written [MB]': f'{status.written_bytes / 1e6:.1f}',
        'queue [MB]': f'{status.queued_bytes / 1e6:.1f}',
        'free on disk [MB]': f'{status.free_bytes / 1e6:.0f}',
        'dropped files': str(status.dropped_files),
        **{key.replace('_', ' '): str(value) for key, value in status.facts.items()},
    }


def summary(state: str, status: Status | None) -> dict[str, object]:
    """Return what ~/status tells, ready for JSON; `status` is None while nothing is recorded."""
    if status is None:
        return {'state': state}
    return {
        'state': state,
        'paused': status.paused,
        'trouble': status.trouble,
        'bag': status.bag,
        'file': status.file,
        'bag_bytes': status.bag_bytes,
        'written_bytes': status.written_bytes,
        'queued_bytes': status.queued_bytes,
        'free_bytes': status.free_bytes,
        'dropped_files': status.dropped_files,
        **status.facts,
        'topics': {topic: {'seen': counts.total(), KEPT: counts[KEPT],
                           **{reason: counts[reason] for reason in REASONS if counts[reason]}}
                   for topic, counts in sorted(status.counts.items())},
    }
