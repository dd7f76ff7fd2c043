"""A street seen from a vehicle."""

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from univseg_core.demo.scenes import drawing as draw
from univseg_core.demo.scenes import textures
from univseg_core.demo.scenes.drawing import Paint, Scene, Vector, Vectors

CLASSES = {
    'road': (128, 64, 128), 'pavement': (244, 35, 232), 'building': (110, 110, 110),
    'vegetation': (107, 142, 35), 'sky': (70, 130, 180), 'vehicle': (0, 0, 200),
    'pole': (230, 200, 110), 'person': (220, 20, 60), 'lane_marking': (255, 255, 255),
    'sign': (250, 230, 0), 'fence': (160, 90, 40),
}

(ROAD, PAVEMENT, BUILDING, VEGETATION, SKY, VEHICLE, POLE, PERSON, MARKING, SIGN,
 FENCE) = range(len(CLASSES))

FAR = 130
"""Metres to the end of the street."""

# Usual colours, red, green and blue in linear light
ASPHALT = [(.1, .1, .11), (.18, .18, .18), (.05, .05, .06), (.2, .16, .13)]
PAVING = [(.4, .38, .36), (.5, .42, .33), (.38, .22, .16), (.6, .58, .55)]
WALLS = [(.65, .5, .32), (.4, .13, .08), (.7, .68, .62), (.35, .35, .36), (.6, .35, .2),
         (.3, .2, .14), (.4, .5, .6), (.75, .6, .55)]
ROOFS = [(.3, .1, .06), (.12, .12, .14), (.25, .17, .12)]
PLANTS = [(.14, .35, .05), (.24, .38, .06), (.09, .25, .06), (.16, .32, .1)]
BODIES = [(.8, .8, .8), (.03, .03, .04), (.4, .42, .45), (.55, .03, .03), (.05, .12, .45),
          (.06, .22, .12), (.7, .45, .05)]
SIGNS = [(.85, .85, .85), (.6, .04, .04), (.04, .12, .5), (.9, .65, .05), (.03, .3, .15)]
POSTS = [(.06, .07, .08), (.08, .18, .14), (.28, .3, .33)]
BOARDS = [(.75, .73, .68), (.38, .2, .09), (.5, .3, .14)]
COATS = [(.75, .25, .03), (.6, .06, .05), (.75, .6, .05), (.1, .3, .6), (.3, .08, .35)]
TROUSERS = [(.04, .06, .14), (.03, .03, .03), (.18, .14, .1)]
SKIN = [(.75, .5, .38), (.5, .3, .2), (.2, .1, .06)]
SKIES = [((.09, .25, .65), (.6, .75, .95)), ((.2, .4, .75), (.85, .85, .85)),
         ((.45, .48, .52), (.75, .75, .75)), ((.22, .2, .4), (.95, .55, .3)),
         ((.35, .5, .55), (.9, .8, .65))]

CARS = {  # outline of z and y in metres, outlines of the side windows, width, wheel radius
    'saloon': ([(-2.2, .3), (2.2, .3), (2.2, .75), (1.2, .9), (.6, 1.42), (-1, 1.45),
                (-1.6, .95), (-2.2, .85)],
               [[(-.1, .92), (.98, .92), (.5, 1.33), (-.1, 1.35)],
                [(-1.4, .95), (-.2, .92), (-.2, 1.35), (-.95, 1.35)]], 1.8, .34),
    'hatchback': ([(-1.9, .3), (1.9, .3), (1.9, .8), (1, .98), (.4, 1.5), (-1.5, 1.52),
                   (-1.9, 1)],
                  [[(-.4, 1), (.8, 1), (.3, 1.4), (-.4, 1.42)],
                   [(-1.6, 1.05), (-.5, 1), (-.5, 1.42), (-1.3, 1.42)]], 1.75, .34),
    'van': ([(-2.5, .4), (2.5, .4), (2.5, 1.1), (1.9, 1.3), (1.4, 2.2), (-2.5, 2.3)],
            [[(.5, 1.3), (1.7, 1.3), (1.3, 2), (.5, 2)]], 2.0, .38),
    'bus': ([(-4.5, .4), (4.5, .4), (4.5, 1.2), (4.4, 3), (-4.5, 3)],
            [[(-4.2 + 1.7 * i, 1.4), (-2.7 + 1.7 * i, 1.4), (-2.7 + 1.7 * i, 2.5),
              (-4.2 + 1.7 * i, 2.5)] for i in range(5)], 2.5, .5),
    'truck': ([(-3.5, .5), (3.5, .5), (3.5, 1.4), (3.3, 2.4), (2, 2.5), (1.8, 3.1), (-3.5, 3.1)],
              [[(2.2, 1.5), (3.2, 1.5), (3, 2.2), (2.2, 2.2)]], 2.4, .5),
}


class Street(NamedTuple):
    """Where the road runs: its centre at depth z is at x = shift + bend z²; lengths in metres."""

    shift: float
    bend: float
    half: float
    pavement: float
    crossing: float

    def point(self, offset: float, z: float, y: float = 0.0) -> np.ndarray:
        """Return the place (x, y, z) at an offset to the right of the centre line."""
        return np.array([self.shift + offset + self.bend * z * z, y, z])

    def heading(self, z: float) -> float:
        """Return the yaw of the road."""
        return np.arctan(2 * self.bend * z)

    def crossed(self, z: float, margin: float = 0.0) -> bool:
        """Return whether the side road, 8 m wide, or a margin around it is at a depth."""
        return self.crossing - margin < z < self.crossing + 8 + margin


def build(rng: np.random.Generator) -> Scene:
    """Return a random street."""
    street = Street(shift=rng.uniform(-4, 4), bend=rng.uniform(-0.006, 0.006),
                    half=rng.uniform(3.6, 5.5), pavement=rng.uniform(2.8, 5.5),
                    crossing=rng.uniform(14, 45) if rng.random() < 0.4 else 1e3)
    camera = draw.look((0, rng.uniform(1.1, 3), 0), yaw=np.radians(rng.normal(0, 11)),
                       pitch=np.radians(rng.uniform(-13, 7)), roll=np.radians(rng.normal(0, 2)),
                       focal=rng.uniform(0.7, 1.15))
    palette = draw.random_palette(rng)
    skies: list[Vectors] = [*SKIES, palette[:2]]
    zenith, horizon = skies[rng.integers(len(skies))]
    angle, height = rng.uniform(0, 2 * np.pi), rng.uniform(0.35, 1.6)
    warm = np.array([1.05, 1, 0.95]) ** rng.uniform(-1, 4)
    light = draw.Light(
        position=1e4 * np.array([np.cos(angle), height, np.sin(angle)]), reach=1e9,
        power=rng.uniform(0.2, 1.5) * warm, ambient=rng.uniform(0.25, 0.5),
        haze=np.array(horizon), clear=rng.uniform(90, 600))
    scene = Scene(rng, camera, light, palette)
    add_sky(scene, zenith)
    add_ground(scene, street)
    add_markings(scene, street)
    for side in (-1, 1):
        add_frontage(scene, street, side)
        add_furniture(scene, street, side)
    add_skyline(scene)
    add_traffic(scene, street)
    add_people(scene, street)
    return scene


# Sky and ground


def add_sky(scene: Scene, zenith: Vector) -> None:
    """Add the sky: a screen of eight by eight texture cells that fills the view, far behind."""
    texture = scene.pick([textures.clouds, textures.overcast, textures.clear_sky])
    paint = scene.paint(texture, (450, 450), colour=zenith, second=scene.light.haze, glow=1)
    corners = np.array([[-1800, 1800, 900], [1800, 1800, 900], [1800, -1800, 900],
                        [-1800, -1800, 900]])  # in camera axes, y down
    scene.add(corners @ scene.camera.rotation + scene.camera.position, SKY, paint)


def add_ground(scene: Scene, street: Street) -> None:
    """Add grass to the horizon, the pavements, the road and a side road."""
    scene.add([[-800, -.04, -9], [800, -.04, -9], [800, -.04, 800], [-800, -.04, 800]],
              VEGETATION, leaf_paint(scene, textures.grass, 1.2))
    paving = scene.paint(scene.pick([textures.tiles, textures.slabs]),
                         (scene.uniform(0.8, 1.3),) * 2, 0.55, scene.colour(PAVING))
    kerb = paving._replace(texture=textures.plain, second=paving.first * 0.5)
    asphalt = scene.paint(textures.speckle, (0.8, 0.8), 0.35, scene.colour(ASPHALT))
    for side in (-1, 1):
        edge = side * street.half
        for ends in ((-8, street.crossing), (street.crossing + 8, FAR)):
            strip(scene, street, (edge, edge + side * street.pavement), ends, .02, PAVEMENT,
                  paving)
            strip(scene, street, (edge, edge + side * .25), ends, .03, PAVEMENT, kerb)
    strip(scene, street, (-street.half, street.half), (-8, FAR), 0, ROAD, asphalt)
    near, far = street.crossing, street.crossing + 8
    if far < FAR:
        scene.add([[-60, .01, near], [60, .01, near], [60, .01, far], [-60, .01, far]], ROAD,
                  asphalt)


def strip(scene: Scene, street: Street, offsets: tuple[float, float], ends: tuple[float, float],
          y: float, label: int, paint: Paint) -> None:
    """Add a ribbon that follows the road between two offsets and between two depths."""
    start, end = ends[0], min(ends[1], FAR)
    if start >= end:
        return
    depths = np.linspace(start, end, max(2, int((end - start) / 7)))
    corners = [street.point(offsets[0], z, y) for z in depths]
    scene.add(corners + [street.point(offsets[1], z, y) for z in depths[::-1]], label, paint)


def add_markings(scene: Scene, street: Street) -> None:
    """Add lane lines, and at times a zebra crossing and arrows."""
    tint = (1, 1, 1) if scene.maybe(0.75) else (1, 0.7, 0.1)
    paint = scene.paint(textures.worn, (0.5, 0.5), 0.2,
                        scene.uniform(0.55, 0.95) * np.array(tint))
    wide, dash = scene.uniform(0.28, 0.45), scene.uniform(2.5, 5)

    def line(offset: float, start: float, end: float) -> None:
        strip(scene, street, (offset - wide / 2, offset + wide / 2), (start, end), .02, MARKING,
              paint)

    for offset in (-street.half + 0.35, street.half - 0.35):
        if scene.maybe(0.7):
            line(offset, -5, street.crossing)
    lanes = 3 if street.half > 5 else 2
    for offset in np.linspace(-street.half, street.half, lanes + 1)[1:-1]:
        for z in np.arange(scene.uniform(-4, 2), 35, 2 * dash):
            if not street.crossed(z, dash):
                line(offset, z, z + dash)
    if scene.maybe(0.75):
        z, bar = min(street.crossing - 4.5, scene.uniform(5, 12)), scene.uniform(0.6, 0.9)
        for x in np.arange(-street.half + 0.5, street.half - 0.5, 2 * bar):
            strip(scene, street, (x, x + bar), (z, z + 3.5), .02, MARKING, paint)
    shaft = [(-.2, 0), (.2, 0), (.2, 1.8), (.65, 1.8), (0, 3.4), (-.65, 1.8), (-.2, 1.8)]
    for _ in range(scene.rng.integers(3)):
        x, z = street.half * scene.pick([-0.5, 0.5]), scene.uniform(4, 16)
        scene.add([street.point(x + dx, z + dz, .02) for dx, dz in shaft], MARKING, paint)


# Along the road


def add_frontage(scene: Scene, street: Street, side: int) -> None:
    """Add a side of the street: buildings with gaps, behind fences, hedges and trees."""
    setback = scene.pick([0.5, 3, 6])
    line = street.half + street.pavement
    z = -6.0
    while z < 85:
        length = scene.uniform(7, 17)
        middle = z + length / 2
        if not street.crossed(middle, length / 2 + 1):
            if scene.maybe(0.72):
                depth = scene.uniform(7, 11)
                add_building(scene, street.point(side * (line + setback + depth / 2), middle),
                             (depth, scene.uniform(3.5, 16), length - scene.uniform(0, 3)),
                             street.heading(middle))
            else:
                for _ in range(2):
                    add_tree(scene, street.point(side * (line + scene.uniform(2, 8)),
                                                 z + scene.uniform(0, length)))
            if setback > 1 or scene.maybe(0.8):
                add_boundary(scene, street, side * (line + 0.1), z, z + length)
        z += length


def add_building(scene: Scene, position: Vector, size: Vector, yaw: float) -> None:
    """Add a house with a flat or a pitched roof."""
    if not draw.in_view(scene, position, max(size)):
        return
    texture = scene.pick([textures.brick_facade, textures.office_facade, textures.shop_facade])
    glass = scene.colour() * 0.3 if scene.maybe(0.75) else scene.colour() ** 0.5
    walls = scene.paint(texture, (scene.uniform(2.2, 3.6), scene.uniform(2.6, 3.4)),
                        colour=scene.colour(WALLS), second=glass)
    draw.box(scene, position, size, yaw, BUILDING, walls)
    if size[1] < 9 and scene.maybe(0.7):
        half, rise = size[0] / 2 + 0.3, scene.uniform(1.5, 3)
        roof = scene.paint(textures.tiles, (0.8, 0.8), 0.5, scene.colour(ROOFS))
        draw.extrude(scene, [(-half, 0), (half, 0), (0, rise)], size[2],
                     np.add(position, (0, size[1], 0)), yaw + np.pi / 2, BUILDING,
                     walls._replace(texture=textures.plain), roof)


def add_boundary(scene: Scene, street: Street, offset: float, start: float, end: float) -> None:
    """Add a fence or a hedge along the road."""
    hedge = scene.maybe(0.12)
    height = scene.uniform(1.3, 2.2)
    fence = scene.paint(scene.pick([textures.pickets, textures.rails, textures.mesh]),
                        (scene.uniform(0.35, 0.5), 5), 0.75, scene.colour(BOARDS))
    leaf = leaf_paint(scene, textures.leaves, 0.7)
    joints = np.linspace(start, end, max(2, round((end - start) / 5) + 1))
    for a, b in pairwise(joints):
        middle = (a + b) / 2
        if hedge:
            draw.box(scene, street.point(offset, middle), (0.8, height, b - a),
                     street.heading(middle), VEGETATION, leaf)
        else:
            draw.cutout(scene, draw.rectangle(a - middle, 0, b - middle, height),
                        street.point(offset, middle), street.heading(middle) - np.pi / 2, FENCE,
                        fence, shadow=True)


def add_furniture(scene: Scene, street: Street, side: int) -> None:
    """Add what stands between the road and the pavement: lamps, signs, trees, bollards."""
    offset = side * (street.half + scene.uniform(0.4, 0.8))
    kinds = [add_lamp_post, add_sign, add_tree, add_bollards, add_traffic_light, add_board]
    z = scene.uniform(3.5, 7)
    while z < 30:
        position = street.point(offset, z)
        if not street.crossed(z) and draw.in_view(scene, position, 6):
            scene.pick(kinds, [.22, .28, .2, .1, .1, .12])(scene, position)
        z += scene.uniform(3, 7)


def add_pole(scene: Scene, position: Vector, height: float, radius: float, paint: Paint) -> None:
    """Add a round post."""
    draw.cutout(scene, draw.rectangle(-radius, 0, radius, height), position,
                draw.facing(scene, position), POLE, paint, shadow=True)


def add_lamp_post(scene: Scene, position: Vector) -> None:
    """Add a lamp post whose arm reaches over the road."""
    metal = scene.paint(textures.rounded, (9, 99), 0.6, scene.colour(POSTS))
    height = scene.uniform(4.5, 8)
    towards = np.sign(-position[0])
    add_pole(scene, position, height, scene.uniform(0.2, 0.3), metal)
    for x, y, size in ((0.8, 0, (1.8, 0.2, 0.2)), (1.6, -0.1, (0.9, 0.25, 0.4))):
        draw.box(scene, np.add(position, (towards * x, height + y, 0)), size, 0, POLE, metal)


def add_sign(scene: Scene, position: Vector) -> None:
    """Add a traffic sign on a post."""
    height, radius = scene.uniform(1.9, 2.6), scene.uniform(0.55, 0.9)
    post = scene.paint(textures.rounded, (9, 99), colour=scene.colour(POSTS))
    add_pole(scene, position, height + radius, scene.uniform(0.12, 0.17), post)
    yaw = draw.facing(scene, position) + scene.rng.normal(0, 0.2)
    corners = scene.pick([3, 4, 8, 14])
    rim = scene.paint(textures.plain, (1, 1), 0.2, scene.colour(SIGNS))
    face = scene.paint(textures.glyphs, (radius, radius), 0.8, scene.colour(SIGNS))
    for scale, ahead, paint in ((1, .04, rim), (.78, .06, face)):
        draw.cutout(scene, draw.disc(radius * scale, 0, height + radius * 0.2, corners),
                    position, yaw, SIGN, paint, ahead, shadow=scale == 1)


def add_board(scene: Scene, position: Vector) -> None:
    """Add a large direction board or advertisement on two posts."""
    wide, tall, low = scene.uniform(1.8, 3.2), scene.uniform(1.2, 2), scene.uniform(1, 2.6)
    yaw = draw.facing(scene, position) + scene.rng.normal(0, 0.15)
    rim = scene.paint(textures.plain, (9, 9), colour=scene.colour(POSTS))
    face = scene.paint(textures.glyphs, (0.6, 0.45), 0.8, scene.colour(SIGNS))
    for x in (-wide * 0.35, wide * 0.35):
        add_pole(scene, draw.place((x, 0, 0), position, yaw), low + 0.3, 0.13, rim)
    for margin, paint in ((0, rim), (.12, face)):
        outline = draw.rectangle(margin - wide / 2, low + margin, wide / 2 - margin,
                                 low + tall - margin)
        draw.cutout(scene, outline, position, yaw, SIGN, paint, .12 + margin / 5, margin == 0)


def add_bollards(scene: Scene, position: Vector) -> None:
    """Add a row of thick low posts."""
    paint = scene.paint(scene.pick([textures.rounded, textures.bands]), (9, 0.35), 0.7,
                        scene.colour(POSTS))
    for i in range(3):
        add_pole(scene, np.add(position, (0, 0, 1.3 * i)), 1.0, 0.19, paint)


def add_traffic_light(scene: Scene, position: Vector) -> None:
    """Add a traffic light, post and head."""
    post = scene.paint(textures.rounded, (9, 99), 0.6, scene.colour(POSTS))
    add_pole(scene, position, 3.4, scene.uniform(0.17, 0.24), post)
    yaw = draw.facing(scene, position)
    head = scene.paint(textures.plain, (1, 1), 0.2, scene.colour() * 0.15)
    draw.box(scene, np.add(position, (0, 2.5, 0)), (0.5, 1.3, 0.4), yaw, POLE, head)
    lit = scene.rng.integers(3)
    for i, colour in enumerate(((.1, .9, .3), (1, .7, .1), (1, .1, .05))):
        shine = 1.0 if i == lit else 0.1
        lens = scene.paint(textures.plain, colour=np.multiply(colour, shine), glow=shine)
        draw.cutout(scene, draw.disc(.16, 0, 2.75 + .4 * i, 10), position, yaw, POLE, lens, .22)


def add_skyline(scene: Scene) -> None:
    """Add tall buildings that close the street in the distance."""
    for x in np.arange(-90, 90, 15):
        position = np.array([x + scene.uniform(-5, 5), 0, scene.uniform(105, 140)])
        if scene.maybe(0.6):
            add_building(scene, position, (14, scene.uniform(6, 26), 10), 0)


# Plants, vehicles, people


def leaf_paint(scene: Scene, texture: textures.Texture, size: float) -> Paint:
    """Return the paint of leaves or grass."""
    colour = scene.colour(PLANTS) * scene.uniform(0.7, 1.2)
    return Paint(texture, colour, colour * scene.uniform(0.2, 0.45), (size, size), 0)


def add_tree(scene: Scene, position: Vector) -> None:
    """Add a tree: a trunk and a crown of leaf clusters, or a cone of branches."""
    if not draw.in_view(scene, position, 8):
        return
    yaw = draw.facing(scene, position)
    height, radius = scene.uniform(3.5, 7), scene.uniform(1.3, 2.4)
    bark = scene.paint(textures.plain, (0.3, 0.8), 0.6, np.array((.2, .14, .1)) * scene.uniform(
        0.5, 2))
    trunk = [(-.22, 0), (.22, 0), (.14, height * .7), (-.14, height * .7)]
    draw.cutout(scene, trunk, position, yaw, VEGETATION, bark, shadow=True)
    paint = leaf_paint(scene, textures.leaves, scene.uniform(0.7, 1.1))
    if scene.maybe(0.25):
        for i in range(3):
            low, wide = height * (0.25 + 0.22 * i), radius * (1.1 - 0.28 * i)
            cone = [(-wide, low), (wide, low), (0, low + height * 0.42)]
            draw.cutout(scene, cone, position, yaw, VEGETATION, paint, .05 * i, shadow=True)
        return
    for i in range(6):
        angle, reach = 2.4 * i, radius * 0.55 * (i > 0)
        centre = (reach * np.cos(angle), height * 0.75 + 0.8 * reach * np.sin(angle))
        ragged = radius * scene.uniform(0.5, 0.75) * scene.rng.uniform(0.85, 1.1, 18)
        tone = scene.uniform(0.75, 1.25)
        draw.cutout(scene, draw.disc(1, corners=18) * ragged[:, None] + centre, position, yaw,
                    VEGETATION, paint._replace(first=paint.first * tone),
                    scene.uniform(-0.5, 0.5) * radius, shadow=True)


def add_traffic(scene: Scene, street: Street) -> None:
    """Add parked and moving vehicles."""
    kerb, lane = street.half - 1.2, street.half * 0.35
    for offset, share, turn in ((-kerb, 0.5, 0), (kerb, 0.5, 0), (-lane, 0.25, np.pi),
                                (lane, 0.25, 0)):
        z = scene.uniform(6, 14)
        while z < 35:
            if scene.maybe(share):
                yaw = street.heading(z) + turn + scene.rng.normal(0, 0.06)
                add_vehicle(scene, street.point(offset, z), yaw)
            z += scene.uniform(6.5, 14)
    if street.crossing < 60 and scene.maybe(0.5):
        position = (scene.uniform(-8, 8), 0, street.crossing + scene.uniform(2, 6))
        add_vehicle(scene, position, scene.pick([-np.pi, np.pi]) / 2)


def add_vehicle(scene: Scene, position: Vector, yaw: float) -> None:
    """Add a car, van, bus or truck with windows, wheels and lamps."""
    if not draw.in_view(scene, position, 5):
        return
    large = .1 if position[2] > 11 else 0  # nearer, they would fill the picture
    kind = scene.pick(list(CARS), [.32, .3, .18, large, large])
    profile, windows, width, radius = CARS[kind]
    outline = np.array(profile)
    body = scene.paint(textures.plain, (4, 4), 0.3, scene.colour(BODIES))
    glass = scene.paint(textures.plain, (2, 2), 0.5, scene.colour() * 0.15)
    tyre = scene.paint(textures.hub, (9, 9), colour=(.02, .02, .02), second=(.3, .3, .3))
    draw.extrude(scene, outline, width, position, yaw, VEHICLE, body, body)

    def panel(points: Vectors, paint: Paint) -> None:
        scene.add(draw.place(points, position, yaw), VEHICLE, paint)

    towards = draw.place(scene.camera.position - position, (0, 0, 0), -yaw)
    axles = outline[:, 0].min() * 0.62, outline[:, 0].max() * 0.62
    if abs(towards[0]) > width / 2:
        x = np.sign(towards[0]) * (width / 2 + .02)
        for window in windows:
            panel([(x, y, z) for z, y in window], glass)
        for z in axles:
            panel([(x, y, z) for z, y in draw.disc(radius, z, radius)], tyre)
    ahead = towards[2] > 0
    axle = axles[int(ahead)]
    for x in (-width * 0.42, width * 0.42):
        rubber = draw.rectangle(x - .12, 0, x + .12, outline[:, 1].min() + .05)
        panel(draw.upright(rubber, axle), tyre._replace(texture=textures.plain))
    if abs(towards[2]) > abs(axle) / 0.62:
        add_end(outline, width, ahead, kind in ('saloon', 'hatchback'), panel, glass)


def add_end(outline: np.ndarray, width: float, ahead: bool, low_car: bool,
            panel: Callable[[Vectors, Paint], None], glass: Paint) -> None:
    """Add lamps, bumper and windscreen to the front or the back of a vehicle."""
    z = outline[:, 0].max() + .02 if ahead else outline[:, 0].min() - .02
    low, high = outline[:, 1].min(), outline[:, 1].max()
    colour = np.array((.9, .85, .6) if ahead else (.5, .03, .02))
    lamp = Paint(textures.plain, colour, colour, (1, 1), 0.5)
    for x in (-width * 0.36, width * 0.36):
        panel(draw.upright(draw.rectangle(x - .2, low + .28, x + .2, low + .46), z), lamp)
    panel(draw.upright(draw.rectangle(-width * .46, low, width * .46, low + .14), z), glass)
    if not low_car and not ahead:
        panel(draw.upright(draw.rectangle(-width * .4, high * .6, width * .4, high * .92), z),
              glass)
    for a, b in zip(outline, np.roll(outline, 1, 0), strict=True):
        steep = abs(b[1] - a[1]) > 0.3 and max(a[1], b[1]) > high - 0.7
        if steep and ((a + b)[0] > 0) == ahead and (low_car or ahead):
            foot, top = a + 0.12 * (b - a), a + 0.88 * (b - a)
            panel([(x * width * 0.42, y + .02, at + (.03 if ahead else -.03))
                   for x, (at, y) in ((-1, foot), (1, foot), (1, top), (-1, top))], glass)


def add_people(scene: Scene, street: Street) -> None:
    """Add people on the pavements and some on the road."""
    for _ in range(scene.rng.integers(4, 8)):
        z = scene.uniform(3.5, 9) if scene.maybe(0.85) else scene.uniform(10, 20)
        offset = scene.pick([-1, 1]) * (street.half + scene.uniform(0.9, street.pavement - 0.4))
        if scene.maybe(0.2):
            offset, z = scene.uniform(-street.half, street.half), max(z, 6)
        add_person(scene, street.point(offset, z))


def add_person(scene: Scene, position: Vector) -> None:
    """Add a person, standing or walking, who faces the camera."""
    if not draw.in_view(scene, position, 2):
        return
    yaw, grow = draw.facing(scene, position), scene.uniform(1.05, 1.25)
    stride, swing = scene.uniform(0.02, 0.22), scene.uniform(0.02, 0.2)
    trousers, coat = (scene.paint(textures.rounded, (9, 9), 0.6, scene.colour(usual))
                      for usual in (TROUSERS, COATS))
    face = scene.paint(textures.plain, (1, 1), 0.2, scene.pick(SKIN))
    hair = scene.paint(textures.plain, (1, 1), 0.2, scene.colour() * 0.2)
    parts: list[tuple[Vectors, Paint]] = [  # outline of x and y, paint; back to front
        ([(-.2 - stride, 0), (-.02 - stride, 0), (.02, .95), (-.23, .95)], trousers),
        ([(.02 + stride, 0), (.2 + stride, 0), (.23, .95), (-.02, .95)], trousers),
        ([(-.36 - swing, .8), (-.24 - swing, .8), (-.16, 1.45), (-.3, 1.42)], coat),
        ([(.24 + swing, .8), (.36 + swing, .8), (.3, 1.42), (.16, 1.45)], coat),
        ([(-.24, .78), (.24, .78), (.31, 1.42), (.1, 1.52), (-.1, 1.52), (-.31, 1.42)], coat),
        (draw.disc(.15, 0, 1.68, 12), hair), (draw.disc(.115, 0, 1.64, 12), face)]
    for i, (outline, paint) in enumerate(parts):
        draw.cutout(scene, np.multiply(outline, grow), position, yaw, PERSON, paint, .01 * i,
                    shadow=i in (0, 1, 4))
