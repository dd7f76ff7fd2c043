"""A furnished room seen from a low robot."""

from typing import NamedTuple

import numpy as np
from univseg_core.demo.scenes import drawing as draw
from univseg_core.demo.scenes import textures
from univseg_core.demo.scenes.drawing import Paint, Scene, Vector, Vectors

CLASSES = {
    'floor': (150, 100, 60), 'wall': (170, 170, 170), 'ceiling': (120, 180, 220),
    'door': (180, 40, 60), 'window': (40, 90, 200), 'table': (230, 140, 30),
    'chair': (200, 60, 200), 'cabinet': (60, 140, 60), 'lamp': (255, 240, 100),
    'box': (110, 60, 160), 'picture': (60, 210, 190),
}

(FLOOR, WALL, CEILING, DOOR, WINDOW, TABLE, CHAIR, CABINET, LAMP, BOX,
 PICTURE) = range(len(CLASSES))

# Usual colours, red, green and blue in linear light
FLOORS = [(.26, .11, .05), (.36, .2, .1), (.48, .35, .22), (.22, .23, .26), (.3, .29, .28)]
CEILINGS = [(.85, .85, .83), (.8, .82, .86), (.78, .74, .66)]
WALLS = [(.78, .74, .62), (.45, .57, .66), (.52, .62, .45), (.72, .5, .42), (.66, .66, .68)]
TRIM = [(.8, .8, .78), (.55, .4, .25), (.16, .17, .2)]
SASHES = [(.85, .85, .83), (.7, .72, .74)]
FRAMES = [(.1, .08, .06), (.3, .2, .06)]
DOORS = [(.3, .1, .05), (.42, .13, .07), (.5, .08, .06), (.25, .06, .12)]
TABLES = [(.62, .42, .15), (.7, .5, .2), (.55, .32, .08)]
CHAIRS = [(.06, .14, .45), (.12, .1, .4), (.05, .25, .35), (.4, .06, .2)]
CABINETS = [(.2, .3, .24), (.14, .2, .22), (.3, .4, .4), (.1, .12, .1)]
INKS = [(.7, .08, .05), (.05, .2, .6), (.8, .6, .05), (.05, .35, .15), (.85, .82, .75)]
CARDBOARD = [(.45, .31, .18), (.53, .4, .27), (.38, .26, .15)]
VIEWS = [(.5, .68, .98), (.7, .85, .98), (.6, .8, .9)]
BRASS = [(.5, .33, .06), (.4, .25, .04), (.6, .42, .1)]
BULBS = [(1, .9, .66), (1, .97, .9), (.88, .94, 1)]


class Slot(NamedTuple):
    """A piece of a wall to furnish: the middle of its foot, its yaw, width, and room height."""

    foot: np.ndarray
    turn: float
    width: float
    high: float

    def place(self, x: float, y: float, ahead: float) -> np.ndarray:
        """Return where, (x, y, z), a point in front of the wall is."""
        return draw.place((x, y, -ahead), self.foot, self.turn)


def build(rng: np.random.Generator) -> Scene:
    """Return a random furnished room."""
    wide, deep, high = rng.uniform(3.6, 6.5), rng.uniform(4.2, 7), rng.uniform(2.3, 3)
    position = np.array([rng.uniform(-0.5, 0.5) * (wide - 2), rng.uniform(0.7, 1.25),
                         rng.uniform(0.8, deep * 0.35)])
    target = np.array([rng.uniform(-0.35, 0.35) * wide, 0, deep * rng.uniform(0.6, 0.9)])
    camera = draw.look(position, np.arctan2(*(target - position)[::2]),
                       pitch=np.radians(rng.uniform(-13, 11)),
                       roll=np.radians(rng.normal(0, 2)), focal=rng.uniform(0.5, 0.8))
    warm = np.array([1.05, 1, 0.9]) ** rng.uniform(-1, 3)
    light = draw.Light(
        position=np.array([rng.uniform(-0.3, 0.3) * wide, high - 0.3,
                           deep * rng.uniform(0.3, 0.7)]),
        reach=rng.uniform(2, 5), power=rng.uniform(0.5, 1.5) * warm,
        ambient=rng.uniform(0.18, 0.45), haze=np.zeros(3), clear=1e6)
    scene = Scene(rng, camera, light, draw.random_palette(rng))
    walls = [Slot(np.array((0, 0, deep)), 0, wide, high),
             Slot(np.array((wide / 2, 0, deep / 2)), np.pi / 2, deep, high),
             Slot(np.array((-wide / 2, 0, deep / 2)), -np.pi / 2, deep, high),
             Slot(np.zeros(3), np.pi, wide, high)]
    add_floor_and_ceiling(scene, wide, deep, high)
    add_walls(scene, walls)
    for wall in walls:
        furnish_wall(scene, wall)
    add_ceiling_lamps(scene, wide, deep, high)
    furnish_floor(scene, wide, deep, high)
    return scene


def add_floor_and_ceiling(scene: Scene, wide: float, deep: float, high: float) -> None:
    """Add the floor, at times with a rug, and the ceiling."""
    outline = np.array([[-.5, 0, 0], [.5, 0, 0], [.5, 0, 1], [-.5, 0, 1]]) * (wide, 1, deep)
    texture = scene.pick([textures.planks, textures.tiles, textures.speckle, textures.chequers])
    size = scene.uniform(0.3, 0.7)
    turned = np.roll(outline, int(scene.maybe(0.5)), 0)  # which way the pattern runs
    scene.add(turned, FLOOR, scene.paint(texture, (size, size), 0.45, scene.colour(FLOORS)))
    if scene.maybe(0.4):
        size = scene.uniform(0.2, 0.9)
        rug = scene.paint(textures.chequers, (size, size), 0.5, scene.colour(CHAIRS))
        spot = (scene.uniform(-1, 1), 0.008, deep * scene.uniform(0.3, 0.7))
        scene.add(draw.place((outline / (wide, 1, deep) - (0, 0, .5)) * (2, 1, 2.8), spot,
                             scene.uniform(0, 3)), FLOOR, rug)
    texture = scene.pick([textures.plain, textures.panels, textures.beams], [.4, .45, .15])
    size = scene.uniform(0.6, 1.2)
    scene.add(np.add(outline, (0, high, 0)), CEILING,
              scene.paint(texture, (size, size), 0.3, scene.colour(CEILINGS)))


def add_walls(scene: Scene, walls: list[Slot]) -> None:
    """Add the walls with a skirting board or a wainscot."""
    texture = scene.pick([textures.plain, textures.wallpaper, textures.plaster,
                          textures.wall_tiles])
    size = scene.uniform(0.25, 0.6)
    paper = scene.paint(texture, (size, size), 0.25, scene.colour(WALLS))
    skirting = scene.paint(textures.plain, (1, 1), 0.2, scene.colour(TRIM))
    tall = scene.uniform(0.08, 0.16) if scene.maybe(0.7) else scene.uniform(0.7, 1)
    for wall in walls:
        half = wall.width / 2
        panel(scene, wall, draw.rectangle(-half, 0, half, wall.high), 0, WALL, paper)
        panel(scene, wall, draw.rectangle(-half, 0, half, tall), .02, WALL, skirting)


# Along the walls


def panel(scene: Scene, slot: Slot, outline: Vectors, ahead: float, label: int,
          paint: Paint) -> None:
    """Add a flat piece parallel to a wall, some metres in front of it."""
    draw.cutout(scene, outline, slot.foot, slot.turn, label, paint, ahead)


def furnish_wall(scene: Scene, wall: Slot) -> None:
    """Add doors, windows, pictures, cabinets, lamps and boxes side by side along a wall."""
    kinds = [add_door, add_window, add_pictures, add_cabinet, add_bookcase, add_floor_lamp,
             add_boxes, add_desk]
    left, end = 0.1 - wall.width / 2, wall.width / 2
    while left < end - 1:
        width = min(scene.uniform(1.1, 2.1), end - left)
        slot = Slot(wall.place(left + width / 2, 0, 0), wall.turn, width - 0.12, wall.high)
        away = np.linalg.norm((slot.foot - scene.camera.position)[::2])
        if away > 1.5 and scene.maybe(0.92):
            scene.pick(kinds, [.19, .18, .19, .14, .05, .08, .07, .1])(scene, slot)
        left += width


def add_door(scene: Scene, slot: Slot) -> None:
    """Add a door in its frame, with a handle."""
    half = min(slot.width, scene.uniform(0.8, 1.1)) / 2
    top = min(slot.high - 0.15, scene.uniform(1.95, 2.2))
    texture = scene.pick([textures.door_panels, textures.door_boards, textures.door_glass])
    leaf = scene.paint(texture, (9, 9), 0.5, scene.colour(DOORS))
    frame = scene.paint(textures.plain, (1, 1), 0.2, scene.colour(TRIM))
    handle = scene.paint(textures.plain, (1, 1), colour=scene.colour() * 0.3)
    panel(scene, slot, draw.rectangle(-half - .07, 0, half + .07, top + .07), .04, DOOR, frame)
    panel(scene, slot, draw.rectangle(-half, 0.01, half, top), .05, DOOR, leaf)
    x = half * 0.8 * scene.pick([-1, 1])
    panel(scene, slot, draw.rectangle(x - .07, .98, x + .07, 1.06), .08, DOOR, handle)


def add_window(scene: Scene, slot: Slot) -> None:
    """Add a window with a sill, bars, and a view or a blind."""
    half, low = slot.width / 2 - scene.uniform(0, 0.15), scene.uniform(0.5, 1.0)
    top = min(slot.high - 0.2, low + scene.uniform(1.0, 1.6))
    texture, cell = scene.pick([(textures.landscape, (9, 9)), (textures.blind, (1, 0.12))],
                               [.75, .25])
    glass = scene.paint(texture, cell, 0.7, scene.colour(VIEWS), glow=scene.uniform(0.6, 1))
    frame = scene.paint(textures.plain, (1, 1), 0.2, scene.colour(SASHES))
    panel(scene, slot, draw.rectangle(-half, low, half, top), .03, WINDOW, frame)
    panel(scene, slot, draw.rectangle(.07 - half, low + .07, half - .07, top - .07), .04, WINDOW,
          glass)
    for x in np.linspace(-half, half, scene.rng.integers(3, 6))[1:-1]:
        panel(scene, slot, draw.rectangle(x - .03, low, x + .03, top), .06, WINDOW, frame)
    if scene.maybe(0.8):
        y = low + (top - low) * scene.uniform(0.4, 0.7)
        panel(scene, slot, draw.rectangle(-half, y - .03, half, y + .03), .06, WINDOW, frame)
    draw.box(scene, slot.place(0, low - .06, .1), (2 * half + .1, .06, .2), slot.turn, WINDOW,
             frame, shadow=False)


def add_pictures(scene: Scene, slot: Slot) -> None:
    """Add one large or two smaller framed pictures."""
    count = scene.rng.integers(1, 3)
    for i in range(count):
        half = slot.width / count / 2 * scene.uniform(0.75, 0.95)
        x, tall = slot.width * ((i + 0.5) / count - 0.5), scene.uniform(0.6, 1.2)
        low = scene.uniform(1.1, 1.35) - tall * 0.2
        frame = scene.paint(textures.plain, (1, 1), 0.2, scene.colour(FRAMES))
        texture = scene.pick([textures.abstract, textures.mosaic])
        art = scene.paint(texture, (9, 9), colour=scene.colour(INKS), second=scene.colour(INKS))
        for margin, paint in ((0, frame), (.07, art)):
            outline = draw.rectangle(x - half + margin, low + margin, x + half - margin,
                                     low + tall - margin)
            panel(scene, slot, outline, .04 + margin / 7, PICTURE, paint)


def add_cabinet(scene: Scene, slot: Slot) -> None:
    """Add a cupboard or a chest of drawers, with a box on a low one at times."""
    deep = scene.uniform(0.4, 0.6)
    tall = min(slot.high - 0.2, scene.pick([0.85, 1.2, 1.9]) * scene.uniform(0.9, 1.1))
    cell = (slot.width / scene.rng.integers(1, 3), tall / scene.rng.integers(1, 5))
    front = scene.paint(textures.drawers, cell, 0.55, scene.colour(CABINETS))
    sides = front._replace(texture=textures.plain, second=front.first * 0.8)
    foot = slot.place(0, 0, deep / 2)
    draw.box(scene, foot, (slot.width, tall, deep), slot.turn, CABINET, front, sides)
    if tall < 1.4 and scene.maybe(0.5):
        add_box(scene, np.add(foot, (0, tall, 0)), scene.uniform(0.35, 0.5))


def add_bookcase(scene: Scene, slot: Slot) -> None:
    """Add a bookcase."""
    tall, deep = min(slot.high - 0.15, scene.uniform(1.4, 2.3)), 0.35
    front = scene.paint(textures.books, (slot.width, 0.36), 0.7, scene.colour(TRIM))
    sides = front._replace(texture=textures.plain, second=front.first * 0.8)
    draw.box(scene, slot.place(0, 0, deep / 2), (slot.width, tall, deep), slot.turn, CABINET,
             front, sides)


def add_desk(scene: Scene, slot: Slot) -> None:
    """Add a table that stands against the wall, at times with a box on it."""
    wide, tall = scene.uniform(0.6, 0.8), scene.uniform(0.6, 0.74)
    foot = slot.place(0, 0, wide / 2)
    add_table(scene, foot, slot.turn, (slot.width, wide, tall))
    if scene.maybe(0.3):
        add_box(scene, np.add(foot, (0, tall, 0)), scene.uniform(0.35, 0.5))


def add_floor_lamp(scene: Scene, slot: Slot) -> None:
    """Add a standing lamp."""
    foot = slot.place(0, 0, 0.45)
    stand = scene.paint(textures.rounded, (9, 9), 0.5, scene.colour(BRASS))
    yaw, tall, wide = draw.facing(scene, foot), scene.uniform(1.25, 1.6), scene.uniform(.32, .44)
    draw.cutout(scene, draw.rectangle(-.08, 0, .08, tall), foot, yaw, LAMP, stand)
    draw.cutout(scene, draw.rectangle(-.24, 0, .24, .09), foot, yaw, LAMP, stand, shadow=True)
    shade = [(-wide, tall), (wide, tall), (wide * .6, tall + .45), (-wide * .6, tall + .45)]
    draw.cutout(scene, shade, foot, yaw, LAMP, lamp_shade(scene), .02)


def lamp_shade(scene: Scene) -> Paint:
    """Return the paint of a lit lamp shade."""
    return scene.paint(textures.rounded, (9, 9), 0.4, scene.colour(BULBS),
                       glow=scene.uniform(0.6, 1))


def add_boxes(scene: Scene, slot: Slot) -> None:
    """Add a stack of boxes in front of a wall."""
    y, size = 0.0, min(slot.width, scene.uniform(0.6, 0.85))
    for _ in range(scene.rng.integers(2, 4)):
        y += add_box(scene, slot.place(0, y, 0.45), size)
        size *= scene.uniform(0.8, 1)


# On the floor and on the ceiling


def furnish_floor(scene: Scene, wide: float, deep: float, high: float) -> None:
    """Add tables with chairs, more chairs, boxes and at times a pillar, none in another."""
    taken = [(scene.camera.position[::2], 0.9)]
    for add, radius, share in ((add_dining_set, 1.1, .85), (add_dining_set, 1.1, .85),
                               (add_chair, .35, .8), (add_floor_boxes, .45, .8),
                               (add_chair, .35, .8), (add_pillar, .3, .15)):
        if scene.maybe(share) and find_room(scene, wide, deep, radius, taken):
            x, z = taken[-1][0]
            add(scene, np.array([x, 0, z]), high)


def find_room(scene: Scene, wide: float, deep: float, radius: float, taken: list) -> bool:
    """Append a free round place in view, (x, z) and radius, to those taken; say if there is."""
    camera, _ = taken[0]
    ahead = scene.camera.rotation[2, ::2]
    for _ in range(12):
        spot = np.array([scene.uniform(-0.5, 0.5) * (wide - 2 * radius - 0.6),
                         scene.uniform(radius + 0.4, deep - radius - 0.5)])
        if (spot - camera) @ ahead > 0.6 and all(
                np.hypot(*(spot - other)) > radius + reach for other, reach in taken):
            taken.append((spot, radius))
            return True
    return False


def add_dining_set(scene: Scene, position: Vector, high: float) -> None:
    """Add a table with chairs around it, at times a box on it and a lamp above it."""
    yaw = scene.uniform(0, np.pi)
    long, wide, tall = scene.uniform(1.1, 1.6), scene.uniform(0.75, 1), scene.uniform(0.6, 0.74)
    add_table(scene, position, yaw, (long, wide, tall))
    top = np.add(position, (0, tall, 0))
    style = chair_style(scene)
    for x, z, turn in ((0, -1, 0), (0, 1, np.pi), (-1, 0, np.pi / 2), (1, 0, -np.pi / 2)):
        if scene.maybe(0.35):
            spot = draw.place((x * (long / 2 + .15), 0, z * (wide / 2 + .15)), position, yaw)
            place_chair(scene, spot, yaw + turn + scene.rng.normal(0, 0.25), style)
    if scene.maybe(0.5):
        spot = draw.place((scene.uniform(-.3, .3), 0, 0), top, yaw)
        add_box(scene, spot, scene.uniform(0.35, 0.5))
    if scene.maybe(0.5):
        add_pendant(scene, position, high)


def add_table(scene: Scene, position: Vector, yaw: float, size: Vector) -> None:
    """Add a table of a size (long, wide, tall)."""
    long, wide, tall = size
    wood = scene.paint(textures.planks, (0.3, 0.3), 0.35, scene.colour(TABLES))
    for y, thick, share in ((tall - .07, .07, 1), (tall - .2, .13, .9)):
        draw.box(scene, np.add(position, (0, y, 0)), (long * share, thick, wide * share), yaw,
                 TABLE, wood, shadow=share == 1)
    add_legs(scene, position, yaw, (long, tall, wide), 0.11, TABLE, wood)


def add_legs(scene: Scene, position: Vector, yaw: float, size: Vector, thick: float, label: int,
             paint: Paint) -> None:
    """Add four legs under something of a size (x, y, z)."""
    for x in (-1, 1):
        for z in (-1, 1):
            foot = draw.place((x * (size[0] - thick) / 2, 0, z * (size[2] - thick) / 2),
                              position, yaw)
            draw.box(scene, foot, (thick, size[1] - .05, thick), yaw, label, paint)


def chair_style(scene: Scene) -> tuple[Paint, Paint, str]:
    """Draw the paints of frame and cushion and the build that the chairs of one table share."""
    return (scene.paint(textures.plain, (0.4, 0.4), 0.4, scene.colour(CHAIRS) * 0.6),
            scene.paint(textures.plain, (0.3, 0.3), 0.3, scene.colour(CHAIRS)),
            scene.pick(['slats', 'solid', 'armchair']))


def add_chair(scene: Scene, position: Vector, high: float) -> None:
    """Add a chair that stands alone."""
    place_chair(scene, position, scene.uniform(0, 2 * np.pi), chair_style(scene))


def place_chair(scene: Scene, position: Vector, yaw: float,
                style: tuple[Paint, Paint, str]) -> None:
    """Add a chair whose seat looks along +z: legs, seat and a back behind it."""
    frame, cushion, kind = style
    size, seat = 0.52, 0.46

    def part(x: float, y: float, z: float, extent: Vector, paint: Paint) -> None:
        draw.box(scene, draw.place((x, y, z), position, yaw), extent, yaw, CHAIR, paint)

    part(0, seat - .08, 0, (size, .08, size), cushion)
    if kind == 'armchair':
        part(0, .08, 0, (size, seat - .16, size), frame)
        for x in (-.25, .25):
            part(x, .08, 0, (.1, .56, size), frame)
    else:
        add_legs(scene, position, yaw, (size, seat, size), 0.08, CHAIR, frame)
    if kind == 'slats':
        for x in (-.22, .22):
            part(x, seat, -.23, (.08, .55, .07), frame)
        for y in (.12, .3):
            part(0, seat + y, -.23, (size, .16, .05), frame)
    else:
        part(0, seat, -.23, (size, .55, .09), cushion)


def add_floor_boxes(scene: Scene, position: Vector, high: float) -> None:
    """Add a few boxes that lie about."""
    for x in (-.3, .3):
        add_box(scene, np.add(position, (x, 0, scene.uniform(-.2, .2))), scene.uniform(0.45, 0.65))


def add_box(scene: Scene, position: Vector, size: float) -> float:
    """Add a cardboard box and return its height."""
    tall = size * scene.uniform(0.6, 1)
    card = scene.paint(textures.carton, (9, 9), 0.65, scene.colour(CARDBOARD))
    draw.box(scene, position, (size, tall, size * scene.uniform(0.7, 1)), scene.uniform(0, 3),
             BOX, card)
    return tall


def add_pillar(scene: Scene, position: Vector, high: float) -> None:
    """Add a square pillar."""
    paint = scene.paint(textures.plaster, (0.5, 0.5), 0.2, scene.colour(WALLS))
    draw.box(scene, position, (0.4, high, 0.4), 0, WALL, paint)


def add_ceiling_lamps(scene: Scene, wide: float, deep: float, high: float) -> None:
    """Add rows of flat lamps under the ceiling."""
    long, short = scene.uniform(0.7, 1.5), scene.uniform(0.4, 0.7)
    rim = scene.paint(textures.plain, (1, 1), 0.2, scene.colour(BULBS))
    lit = scene.paint(textures.diffuser, (0.15, 0.15), 0.25, scene.colour(BULBS),
                      glow=scene.uniform(0.6, 1))
    columns, rows = scene.rng.integers(1, 3), scene.rng.integers(2, 5)
    for x in (np.arange(columns) + 0.5) / columns - 0.5:
        for z in (np.arange(rows) + 0.7) / (rows + 0.4):
            draw.box(scene, (x * wide, high - .07, z * deep), (short, .1, long), 0, LAMP, rim,
                     shadow=False)
            draw.box(scene, (x * wide, high - .08, z * deep), (short - .08, .05, long - .08), 0,
                     LAMP, lit, shadow=False)


def add_pendant(scene: Scene, position: Vector, high: float) -> None:
    """Add a lamp that hangs from the ceiling."""
    yaw, low = draw.facing(scene, position), scene.uniform(1.4, 1.75)
    wire = scene.paint(textures.plain, (1, 1), 0.2, scene.colour(BRASS))
    wide = scene.uniform(0.35, 0.5)
    draw.cutout(scene, draw.rectangle(-.05, low, .05, high), position, yaw, LAMP, wire)
    shade: Vectors = [(-wide, low), (wide, low), (wide * .3, low + .35), (-wide * .3, low + .35)]
    if scene.maybe(0.4):
        shade = draw.disc(wide * 0.8, 0, low + 0.2)
    draw.cutout(scene, shade, position, yaw, LAMP, lamp_shade(scene), .02)
