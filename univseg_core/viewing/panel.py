"""What the page shows of one domain: its picture, the class under the cursor, the legend."""

from collections import OrderedDict
from dataclasses import replace
from itertools import count

import cv2
from fastapi import Response
from nicegui import events, ui
import numpy as np
from univseg_core.domains import Domain
from univseg_core.viewing.looks import (
    as_hex,
    CLASSES,
    drawn,
    heat_scale,
    Look,
    Seen,
    share_text,
    shares,
    under,
)

QUALITY = 92
"""Of the JPEGs that are shown."""

SHOWN = 64
"""Pictures that the server has: those that the page shows now, and some that it has shown."""

HIGHEST = '75vh'
"""Of a picture, as CSS has it: the legend below it is still in sight."""


class Shelf:
    """The last few pictures that were drawn, as JPEGs, by the addresses that pages ask for."""

    def __init__(self) -> None:
        self._pictures: OrderedDict[int, bytes] = OrderedDict()
        self._numbers = count()

    def put(self, picture: np.ndarray) -> str:
        """Keep a picture (H, W, 3) uint8 RGB; return its address."""
        _, data = cv2.imencode('.jpg', cv2.cvtColor(picture, cv2.COLOR_RGB2BGR),
                               [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        number = next(self._numbers)
        self._pictures[number] = data.tobytes()
        if len(self._pictures) > SHOWN:
            self._pictures.popitem(last=False)
        return f'/shown/{number}.jpg'

    def answer(self, number: int) -> Response:
        """Answer a request for a picture."""
        if number not in self._pictures:
            return Response(status_code=404)
        return Response(self._pictures[number], media_type='image/jpeg',
                        headers={'cache-control': 'no-store'})


class Panel:
    """A domain's picture, the class under the cursor, and the legend."""

    def __init__(self, domain: Domain, shelf: Shelf):
        self.domain = domain
        self.look = Look()
        self._shelf = shelf
        self._seen: Seen | None = None
        with ui.element('section').classes('look').props(f'aria-label={domain.name}') as self.box:
            with ui.column().classes('gap-1'):
                ui.label(domain.name).classes('text-lg font-bold').props(
                    'role=heading aria-level=2')
                self._picture = ui.interactive_image(events=['mousemove', 'mouseleave']).classes(
                    f'picture picture-{domain.name}').props('role=img')
                self._picture.on('mouse', self._hover, throttle=0.04)
                self._under = ui.label('').classes(f'under-{domain.name} font-mono min-h-6')
                with ui.row().classes('items-center w-full flex-nowrap') as self._scale:
                    ui.label('0')
                    ui.element('div').classes('scale').style(
                        f'background: linear-gradient(to right, {", ".join(heat_scale())})')
                    ui.label('1')
            with ui.column().classes('gap-1'):
                with ui.row().classes('items-center gap-2'):
                    ui.label('Classes')
                    for text, hidden in (('All', frozenset()),
                                         ('None', frozenset(range(len(domain.classes))))):
                        ui.button(text, on_click=lambda _, hidden=hidden: self._hide(hidden)
                                  ).props('flat dense no-caps').classes(
                            f'{text.lower()}-{domain.name}')
                with ui.element('div').classes('legend').props(
                        f'role=group aria-label="classes of {domain.name}"'):
                    self._entries = [self._entry(index) for index in range(len(domain.classes))]

    def _entry(self, index: int) -> tuple[ui.checkbox, ui.label]:
        name = self.domain.classes[index]
        with ui.row().classes('entry items-center gap-1 flex-nowrap') as row:
            box = ui.checkbox(value=True, on_change=lambda: self._toggle(index)).props(
                'dense').classes(f'toggle-{self.domain.name}-{index}')
            box.props['aria-label'] = name
            ui.element('span').classes('swatch').style(
                f'background: {as_hex(self.domain.palette[index])}')
            ui.label(name).classes('grow')
            share = ui.label('').classes('tabular-nums')
        for event, alone in (('mouseenter', index), ('mouseleave', None),
                             ('focusin', index), ('focusout', None)):
            row.on(event, lambda _, alone=alone: self.draw(alone=alone), args=[])
        return box, share

    def show(self, seen: Seen, **changes: object) -> None:
        """Show what the domain's head says of a frame, with changes of the look."""
        self._seen = seen
        self._picture.props['aria-label'] = f'{seen.name}, as {self.domain.name}'
        height, width = seen.image.shape[:2]
        self._picture.style(f'max-width: calc({HIGHEST} * {width / height:.4f})')
        answer = seen.answers[self.domain.name]
        for (_, label), share in zip(self._entries, shares(answer.mask, len(self._entries)),
                                     strict=True):
            label.text = share_text(float(share))
        self._under.text = ''
        self.draw(**changes)

    def draw(self, **changes: object) -> None:
        """Draw the frame again, with changes of the look."""
        self.look = replace(self.look, **changes)  # type: ignore[arg-type]
        self._scale.visible = self.look.drawn != CLASSES
        if self._seen:
            picture = drawn(self._seen.image, self._seen.answers[self.domain.name], self.domain,
                            self.look)
            self._picture.set_source(self._shelf.put(picture))

    def _toggle(self, index: int) -> None:
        if self._entries[index][0].value == (index in self.look.hidden):
            self.draw(hidden=self.look.toggled(index).hidden, alone=None)

    def _hide(self, hidden: frozenset[int]) -> None:
        self.draw(hidden=hidden, alone=None)
        for index, (box, _) in enumerate(self._entries):
            box.value = index not in hidden

    def all_or_none(self) -> None:
        """Show all classes; none where all are shown."""
        self._hide(frozenset() if self.look.hidden else
                   frozenset(range(len(self.domain.classes))))

    def _hover(self, event: events.GenericEventArguments) -> None:
        text = ''
        if self._seen and event.args['mouse_event_type'] == 'mousemove':
            text = under(self._seen.answers[self.domain.name], self.domain,
                         event.args['image_x'], event.args['image_y'])
        self._under.text = text
