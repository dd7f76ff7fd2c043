"""The page: NiceGUI's elements, and what they set off."""

import asyncio
from typing import NamedTuple

from fastapi import FastAPI
from nicegui import events, ui
from univseg_core.errors import in_one_line, UnivsegError
from univseg_core.files.limits import PIXELS
from univseg_core.pictures.picture_files import largest_file
from univseg_core.viewing.frames import frame_index, Frames
from univseg_core.viewing.keys import ACTIONS, KEYS
from univseg_core.viewing.looks import CLASSES, DRAWN, HEAD, LABEL_EMBEDDINGS, recognised, Seen
from univseg_core.viewing.panel import Panel, Shelf
from univseg_core.viewing.viewer import Viewer

ALL, AUTO = '*all', '*auto'
"""What may be chosen in the place of a domain; no domain has such a name."""

NOTES = 12
"""Lines of notes at most: a folder may hold nothing but what cannot be read."""

STEP = 0.1
"""How much a key changes the opacity."""

STYLE = """
body { --q-primary: #0b57a4 !important; font-size: 1rem }
body.body--dark { --q-primary: #8ec2f7 !important; background: #14171a; color: #eceff1 }
/* Of what is important, that of an earlier layer wins: here over white on a light blue. */
@layer base { body.body--dark .bg-primary { color: #101214 !important } }
:focus-visible { outline: 3px solid var(--q-primary) !important; outline-offset: 2px }
.looks { display: grid; gap: .5rem 1.5rem; width: 100%;
         grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)) }
.look { display: grid; gap: .25rem 1.5rem; align-content: start; width: 100% }
@media (min-width: 60rem) {
  .looks.one { grid-template-columns: 1fr }
  .looks.one .look { grid-template-columns: minmax(0, 1fr) minmax(12rem, 24rem) } }
.picture { width: 100%; cursor: crosshair }
.legend { display: grid; width: 100%; gap: 0 .5rem;
          grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)) }
.swatch { width: 1rem; height: 1rem; border: 1px solid currentColor; flex: none }
.entry { border-radius: .25rem; padding-right: .25rem }
.entry:hover { background: color-mix(in srgb, currentColor 12%, transparent) }
.scale { height: .75rem; flex: 1; max-width: 20rem; border: 1px solid currentColor }
kbd { border: 1px solid currentColor; border-radius: .25rem; padding: 0 .35rem }
/* The whole page takes what is dropped on it; what has been taken is not listed. */
.drop { width: 100%; max-height: none; background: transparent; color: inherit;
        border: 0; box-shadow: none }
.drop .q-uploader__header { background: transparent; color: inherit; border: 1px dashed;
                            margin: .5rem .5rem 0; border-radius: .25rem }
.drop .q-uploader__title { font-weight: normal; font-size: 1rem; line-height: 1.5 }
.drop .q-uploader__subtitle { display: none }
.drop .q-uploader__header-content { padding: .1rem .5rem }
.drop .q-uploader__list { padding: 0; max-height: none; overflow: visible; min-height: 90vh }
"""


def add_page(app: FastAPI, viewer: Viewer, title: str) -> None:
    """Add the page of a viewer, and the pictures that it shows, to an application."""
    shelf = Shelf()
    app.get('/shown/{number}.jpg')(shelf.answer)

    @ui.page('/', title=title)
    async def look_at() -> None:
        page = Page(viewer, shelf, title)
        await ui.context.client.connected(timeout=60)
        await page.begin()


class Wanted(NamedTuple):
    """What a page asks its viewer for, as `Viewer.find` takes it."""

    frames: Frames
    frame: int
    step: int
    by: str


class Page:
    """A page that somebody has open: which frame and domains it shows, and how."""

    def __init__(self, viewer: Viewer, shelf: Shelf, title: str):
        self._viewer = viewer
        self._frames: Frames = viewer.given or viewer.dropped
        self._seen: Seen | None = None
        self._index = 0
        self._wanted: Wanted | None = None
        self._is_busy = False
        self._said: dict[str, None] = {}
        ui.add_css(STYLE)
        ui.keyboard(self._key, ignore=['input', 'select', 'textarea'])
        self._upload = self._drop()
        with self._upload.add_slot('list'), ui.column().classes('w-full gap-2 p-2'):
            self._head(title)
            self._controls()
            with ui.element('div').classes('looks') as self._looks:
                self._panels = {name: Panel(domain, shelf)
                                for name, domain in viewer.segmenter.domains.items()}
            self._notes = ui.label('').classes('notes whitespace-pre-line').props('role=status')
        self._keys = self._key_table()
        self._choose()

    def _head(self, title: str) -> None:
        with ui.row().classes('items-baseline w-full'):
            ui.label(title).classes('text-xl font-bold').props('role=heading aria-level=1')
            self._where = ui.label('').classes('where').props('role=status')
            self._as = ui.label('').classes('recognised')

    def _controls(self) -> None:
        names = list(self._viewer.segmenter.domains)
        choices = {name: name for name in names}
        if len(names) > 1:
            choices[ALL] = 'side by side'
        if self._viewer.segmenter.evidence:
            choices[AUTO] = 'auto'
        with ui.row().classes('items-center w-full'):
            for text, step in (('Previous', -1), ('Next', 1)):
                ui.button(text, on_click=lambda _, step=step: self._move(step)).props(
                    'no-caps dense padding="xs md"').classes(text.lower())
            self._number = ui.input(placeholder='frame').props(
                'dense inputmode=numeric maxlength=9 aria-label="number of a frame"').classes(
                'number w-20').on('keydown.enter', self._jump)
            self._chosen = ui.toggle(choices, value=ALL if ALL in choices else names[0],
                                     on_change=self._choose).props(
                'no-caps dense padding="xs md"').classes('domains')
            self._chosen.props['aria-label'] = 'domain'
            self._drawn = ui.toggle(list(DRAWN), value=CLASSES, on_change=self._draw).props(
                'no-caps dense padding="xs md"').classes('drawn')
            self._by = ui.toggle([HEAD, LABEL_EMBEDDINGS], value=HEAD,
                                 on_change=self._look_again).props(
                'no-caps dense padding="xs md"').classes('by')
            self._by.props['aria-label'] = 'classes by'
            self._by.visible = self._viewer.segmenter.has_label_embeddings
            with ui.row().classes('items-center flex-nowrap w-64'):
                ui.label('Opacity')
                self._opacity = ui.slider(min=0, max=1, step=0.05, value=0.5,
                                          on_change=self._draw).classes('opacity')
                self._opacity.props['aria-label'] = 'opacity'
                # Its arrows are its own, not those of the frames.
                self._opacity.on('keydown', js_handler='(e) => { if '
                                 '(e.key.startsWith("Arrow") || e.key == "Home") '
                                 'e.stopPropagation() }')
            ui.button('Keys', on_click=lambda: self._keys.open()).props('flat no-caps dense')
            self._which = ui.toggle({False: 'given', True: 'dropped'}, value=False,
                                    on_change=self._change_frames).props(
                'no-caps dense padding="xs md"')
            self._which.visible = False
        if AUTO not in choices:
            ui.label('auto is not offered: this model file has no evidence of its domains; '
                     '`univseg recognise` adds it').classes('no-auto')
        if not self._by.visible:
            ui.label('label embeddings are not offered: this model does not have them of each '
                     'of its domains').classes('no-label-embeddings')

    def _drop(self) -> ui.upload:
        return ui.upload(
            label='Drop pictures anywhere on this page, or choose them by +', multiple=True,
            auto_upload=True, max_file_size=largest_file(), on_multi_upload=self._dropped,
            on_rejected=lambda: self._note([f'a dropped file: {too_large()}'])).classes('drop')

    def _key_table(self) -> ui.dialog:
        with ui.dialog() as dialog, ui.card():
            ui.label('Keys').classes('text-lg font-bold')
            with ui.grid(columns='auto auto').classes('gap-2'):
                for key in KEYS:
                    with ui.row().classes('gap-1'):
                        for name in key.shown.split():
                            with ui.element('kbd'):
                                ui.label(name)
                    ui.label(key.meaning)
            ui.button('Close', on_click=dialog.close).props('no-caps')
        return dialog

    async def begin(self) -> None:
        """Show the first frame."""
        if self._frames.count() == 0:
            self._where.text = 'No pictures yet: drop some here'
            return
        await self._show(self._frames, 0)

    async def _show(self, frames: Frames, index: int, step: int = 1) -> None:
        """
        Show a frame; of several that are asked for while one is looked at, the last alone.

        So that a key which is held down skips frames, and none is shown after it is let go.
        """
        self._wanted = Wanted(frames, max(index, 0), step, self._by.value)
        if self._is_busy:
            return
        self._is_busy = True
        try:
            while self._wanted:
                wanted = self._wanted
                found = await asyncio.wrap_future(self._viewer.find(*wanted))
                if self._wanted == wanted:
                    self._wanted = None
                self._note([*found.skipped, *wanted.frames.notes])
                if found.seen is None or found.index is None:
                    self._tell_end(wanted)
                    continue
                self._frames, self._index, self._seen = wanted.frames, found.index, found.seen
                self._tell_where()
                self._choose()
        finally:
            self._is_busy = False

    def _tell_where(self, more: str = '') -> None:
        assert self._seen is not None
        total = self._frames.count()
        of = f' of {total}' if total else ''
        self._where.text = f'{self._index + 1}{of} · {self._seen.name}{more}'
        recognition = self._seen.recognition
        self._as.text = recognised(recognition) if recognition else ''

    def _tell_end(self, wanted: Wanted) -> None:
        if self._seen is None:
            self._where.text = f'{wanted.frames.name}: no frame that can be read'
        elif wanted.frame > self._index + 1:
            self._tell_where(f' · from {wanted.frame + 1} on, no frame can be read')
        else:
            self._tell_where(' · the last frame' if wanted.step > 0 else ' · the first frame')

    async def _jump(self) -> None:
        """Show the frame whose number was typed."""
        text, self._number.value = self._number.value, ''
        self._number.run_method('blur')  # the keys are those of the frames again
        if self._seen is None or not text:
            return
        try:
            index = frame_index(text, self._frames.count())
        except UnivsegError as error:
            self._tell_where(f' · {error}')
        else:
            await self._show(self._frames, index)

    async def _look_again(self) -> None:
        """Show the frame as it is chosen now what tells the classes."""
        if self._seen:
            wanted = self._wanted or Wanted(self._frames, self._index, 1, '')
            await self._show(wanted.frames, wanted.frame, wanted.step)

    async def _move(self, step: int) -> None:
        wanted = self._wanted.frame if self._wanted else self._index
        if self._seen is None or (step < 0 and wanted == 0):
            return
        await self._show(self._frames, wanted + step, step)

    def _choose(self) -> None:
        """Show the domains that are chosen."""
        for name, panel in self._panels.items():
            panel.box.visible = self._is_chosen(name)
            if self._seen and panel.box.visible:
                panel.show(self._seen, drawn=self._drawn.value, opacity=self._opacity.value)
        shown = sum(panel.box.visible for panel in self._panels.values())
        self._looks.classes(**{'add' if shown == 1 else 'remove': 'one'})

    def _is_chosen(self, name: str) -> bool:
        chosen = self._chosen.value
        if chosen == AUTO:
            found = self._seen.recognition if self._seen else None
            return found is None or name == found.domain
        return chosen in (ALL, name)

    def _draw(self) -> None:
        """Draw all pictures again, as it is chosen now."""
        for panel in self._panels.values():
            if panel.box.visible:
                panel.draw(drawn=self._drawn.value, opacity=self._opacity.value)

    async def _change_frames(self) -> None:
        frames = self._viewer.dropped if self._which.value else self._viewer.given
        if frames and frames is not self._frames:
            await self._show(frames, 0)

    async def _dropped(self, event: events.MultiUploadEventArguments) -> None:
        """Take the pictures that were dropped, and show the first of them."""
        dropped = self._viewer.dropped
        first = dropped.count()
        for file in event.files:
            try:
                if file.size() > largest_file():
                    raise UnivsegError(f'{in_one_line(file.name)}: {too_large()}')
                await asyncio.to_thread(dropped.add, file.name, await file.read())
            except UnivsegError as error:
                self._note([str(error)])
        self._upload.reset()
        if dropped.count() > first:
            self._which.visible = self._viewer.given is not None
            self._which.value = True
            await self._show(dropped, first)

    def _note(self, notes: list[str]) -> None:
        """Say what was passed over or is to be known, each once."""
        self._said |= dict.fromkeys(notes)
        said = list(self._said)
        more = [f'… and {len(said) - NOTES} more'] if len(said) > NOTES else []
        self._notes.text = '\n'.join([*said[:NOTES], *more])

    async def _key(self, event: events.KeyEventArguments) -> None:
        pressed = event.modifiers
        action = ACTIONS.get(event.key.name)
        if not event.action.keydown or pressed.alt or pressed.ctrl or pressed.meta:
            return
        if action in ('next', 'previous'):
            await self._move(1 if action == 'next' else -1)
        elif action == 'first' and self._seen:
            await self._show(self._frames, 0)
        elif action == 'jump':
            self._number.run_method('focus')
        elif action == 'domain':
            self._chosen.value = _following(list(self._chosen.options), self._chosen.value)
        elif action == 'heat':
            self._drawn.value = _following(list(DRAWN), self._drawn.value)
        elif action == 'by' and self._by.visible:
            self._by.value = _following(list(self._by.options), self._by.value)
        elif action in ('more', 'less'):
            value = self._opacity.value + (STEP if action == 'more' else -STEP)
            self._opacity.value = round(min(max(value, 0), 1), 2)
        elif action == 'all':
            for panel in self._panels.values():
                if panel.box.visible:
                    panel.all_or_none()
        elif action == 'help':
            self._keys.open()


def too_large() -> str:
    """Say that a file has more."""
    return f'more than {largest_file()} bytes, which no picture of {PIXELS} has'


def _following(options: list[str], value: str) -> str:
    return options[(options.index(value) + 1) % len(options)]
