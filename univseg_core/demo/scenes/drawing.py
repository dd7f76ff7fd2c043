"""A small renderer for the synthetic worlds: camera, solids, light and sensor."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias, TypeVar

import cv2
import numpy as np
from univseg_core.demo.scenes.textures import Spots, Texture

Vector: TypeAlias = Sequence[float] | np.ndarray
"""A place or a size (x, y, z) in metres, or a colour (red, green, blue)."""

Vectors: TypeAlias = Sequence[Sequence[float]] | Sequence[np.ndarray] | np.ndarray
"""Several of these, or the points (K, 2) of an outline."""

Option = TypeVar('Option')

NEAR = 0.15
"""Metres in front of the camera where faces are cut off."""

SHADOW_CELLS = 512
"""Side of the shadow map in cells."""

SHADOW_REACH = 40
"""Metres around the camera within which the ground has shadows."""

ODD_COLOURS = 0.1
"""
Share of things in a colour of the scene's palette instead of one that is usual for them.

The more there are, the less colour tells of the class; a random forest on colour and location
is to stay well below what a network can reach.
"""

AROUND = np.array([[0, 1, 1], [1, 1, 1], [1, 1, 1]], np.uint8)
"""The neighbourhood in which a pixel is on an outline if it holds more than one face."""

BOX = np.array([  # The unit box over the origin: front, back, left, right, top, bottom
    [[-1, 0, -1], [1, 0, -1], [1, 2, -1], [-1, 2, -1]],
    [[1, 0, 1], [-1, 0, 1], [-1, 2, 1], [1, 2, 1]],
    [[-1, 0, 1], [-1, 0, -1], [-1, 2, -1], [-1, 2, 1]],
    [[1, 0, -1], [1, 0, 1], [1, 2, 1], [1, 2, -1]],
    [[-1, 2, -1], [1, 2, -1], [1, 2, 1], [-1, 2, 1]],
    [[-1, 0, 1], [1, 0, 1], [1, 0, -1], [-1, 0, -1]]]) / 2


class Camera(NamedTuple):
    """A pinhole: its place, its world-to-camera rotation, its focal length in longer sides."""

    position: np.ndarray
    rotation: np.ndarray
    focal: float


class Light(NamedTuple):
    """
    One lamp or sun, the light that comes from everywhere, and the haze that distance adds.

    `power` (3,) is the lamp's colour times its strength, which halves `reach` metres away;
    `clear` is the distance in metres at which haze of the colour `haze` (3,) hides 63 %.
    """

    position: np.ndarray
    reach: float
    power: np.ndarray
    ambient: float
    haze: np.ndarray
    clear: float


class Paint(NamedTuple):
    """Two colours that a texture mixes, the size of a texture cell in metres, its own light."""

    texture: Texture
    first: np.ndarray
    second: np.ndarray
    cell: tuple[float, float]
    glow: float


class Face(NamedTuple):
    """
    A flat polygon, corners (K, 3) in metres; its first edge is the texture's u axis.

    `first` is the index of the first face of the solid it belongs to, itself if it stands alone.
    """

    corners: np.ndarray
    label: int
    paint: Paint
    first: int


@dataclass
class Scene:
    """
    What a picture shows: x points right, y up, z forward, in metres; the ground is y = 0.

    `casters` are the point sets (K, 3) whose convex hulls throw a shadow on the ground.
    """

    rng: np.random.Generator
    camera: Camera
    light: Light
    palette: np.ndarray
    faces: list[Face] = field(default_factory=list)
    casters: list[np.ndarray] = field(default_factory=list)

    def uniform(self, low: float, high: float) -> float:
        """Draw a number."""
        return low + (high - low) * self.rng.random()

    def maybe(self, probability: float) -> bool:
        """Draw whether something happens."""
        return self.rng.random() < probability

    def pick(self, options: Sequence[Option], weights: Sequence[float] | None = None) -> Option:
        """Draw one of a sequence of options, each as likely as the others or by its weight."""
        if weights is None:
            return options[int(self.rng.random() * len(options))]
        return options[int(np.searchsorted(np.cumsum(weights), self.rng.random() * sum(weights)))]

    def colour(self, usual: Vectors | None = None) -> np.ndarray:
        """Draw a colour like one of those usual for a thing or, at times, of the palette."""
        if usual is None or self.maybe(ODD_COLOURS):
            usual = self.palette
        colour = np.multiply(self.pick(list(usual)), self.uniform(0.7, 1.3))
        return np.clip(colour + (self.rng.random(3) - 0.5) * 0.06, 0, 1)

    def paint(self, texture: Texture, cell: tuple[float, float] = (1.0, 1.0),
              contrast: float = 0.5, colour: Vector | None = None, second: Vector | None = None,
              glow: float = 0.0) -> Paint:
        """Return a paint; without a second colour, a darker or lighter shade of the first."""
        first = self.colour() if colour is None else np.asarray(colour, float)
        if second is None:  # darker joints and stains, as dirt is, but for what is black
            darker = first.mean() > 0.08 and self.maybe(0.92)
            second = first * (1 - contrast) if darker else first + contrast * (0.9 - first) * 0.5
        return Paint(texture, first, np.asarray(second, float), cell, glow)

    def add(self, corners: Vectors, label: int, paint: Paint, first: int | None = None) -> None:
        """Add a flat polygon, which may belong to a solid that began with the face `first`."""
        first = len(self.faces) if first is None else first
        self.faces.append(Face(np.asarray(corners, float), label, paint, first))


def look(position: Vector, yaw: float, pitch: float, roll: float, focal: float) -> Camera:
    """Return a camera turned right by yaw, up by pitch and clockwise by roll, in radians."""
    forward = np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
    right = np.array([np.cos(yaw), 0, -np.sin(yaw)])
    up = np.cross(forward, right)
    tilted_right = np.cos(roll) * right - np.sin(roll) * up
    tilted_up = np.sin(roll) * right + np.cos(roll) * up
    return Camera(np.asarray(position, float),
                  np.stack([tilted_right, -tilted_up, forward]), focal)


# Solids


def place(points: Vector | Vectors, position: Vector, yaw: float = 0.0) -> np.ndarray:
    """Return points (..., 3) turned right by yaw about the y axis and moved to a position."""
    sine, cosine = np.sin(yaw), np.cos(yaw)
    turn = np.array([[cosine, 0, -sine], [0, 1, 0], [sine, 0, cosine]])
    return np.asarray(points, float) @ turn + np.asarray(position, float)


def upright(outline: Vectors, depth: float = 0.0) -> np.ndarray:
    """Return the points (K, 3) of an outline (K, 2) of x and y that stands facing backwards."""
    return np.column_stack([outline, np.full(len(outline), depth)])


def disc(radius: float, x: float = 0.0, y: float = 0.0, corners: int = 14) -> np.ndarray:
    """Return the outline (corners, 2) of a regular polygon with a level lower edge."""
    angle = 2 * np.pi * (np.arange(corners) - 0.5) / corners - np.pi / 2
    return np.stack([np.cos(angle), np.sin(angle)], axis=1) * radius + (x, y)


def rectangle(left: float, bottom: float, right: float, top: float) -> np.ndarray:
    """Return the outline (4, 2) of a rectangle."""
    return np.array([[left, bottom], [right, bottom], [right, top], [left, top]])


def box(scene: Scene, position: Vector, size: Vector, yaw: float, label: int, paint: Paint,
        other: Paint | None = None, shadow: bool = True) -> None:
    """Add a box that stands on a position; `other` paints its top and its narrow sides."""
    faces = place(BOX * size, position, yaw)
    first = len(scene.faces)
    for i in np.flatnonzero(turned_to_camera(scene, faces)):
        scene.add(faces[i], label, paint if other is None or i < 2 else other, first)
    if shadow:
        scene.casters.append(faces[:2].reshape(-1, 3))


def extrude(scene: Scene, outline: Vectors, width: float, position: Vector, yaw: float,
            label: int, side: Paint, edge: Paint) -> None:
    """Add a solid with an upright outline (K, 2) of z and y, `width` wide along x."""
    outline = upright(outline)[:, ::-1]
    half = np.array((width / 2, 0, 0))
    left, right = place([outline - half, outline + half], position, yaw)
    edges = np.stack([np.roll(right, 1, 0), np.roll(left, 1, 0), left, right], axis=1)
    first = len(scene.faces)
    for corners in edges[turned_to_camera(scene, edges)]:
        scene.add(corners, label, edge, first)
    across = (right - left)[0] @ (scene.camera.position - (left + right)[0] / 2)
    scene.add(right if across > 0 else left, label, side, first)
    scene.casters.append(np.concatenate([left, right]))


def in_view(scene: Scene, position: Vector, radius: float) -> bool:
    """Return whether a ball may be in the picture."""
    x, y, z = scene.camera.rotation @ (np.asarray(position, float) - scene.camera.position)
    edge = max(z, 0) * 0.5 / scene.camera.focal + 1.5 * radius
    return z > -radius and abs(x) < edge and abs(y) < edge


def cutout(scene: Scene, outline: Vectors, position: Vector, yaw: float, label: int,
           paint: Paint, ahead: float = 0.0, shadow: bool = False) -> None:
    """Add an upright flat piece with an outline (K, 2) of x and y, moved ahead by some metres."""
    corners = place(upright(outline, -ahead), position, yaw)
    scene.add(corners, label, paint)
    if shadow:
        scene.casters.append(corners)


def turned_to_camera(scene: Scene, faces: np.ndarray) -> np.ndarray:
    """Return which faces (N, K, 3) of a solid show their outside, (N,) bool."""
    inwards = np.cross(faces[:, 1] - faces[:, 0], faces[:, -1] - faces[:, 0])
    return np.einsum('ni,ni->n', inwards, faces[:, 0] - scene.camera.position) > 0


def facing(scene: Scene, position: Vector) -> float:
    """Return the yaw of something upright that turns its front to the camera."""
    x, _, z = np.asarray(position, float) - scene.camera.position
    return np.arctan2(x, z)


# Rendering


def render(scene: Scene, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """
    Return the picture (height, width, 3) uint8 RGB and the label (height, width) uint8.

    Both come from the same map of visible faces, so that the label is exact.
    """
    focal = scene.camera.focal * max(width, height)
    x = ((np.arange(width) - (width - 1) / 2) / focal).astype(np.float32)
    y = ((np.arange(height) - (height - 1) / 2) / focal).astype(np.float32)
    planes = plane_maps(scene)
    visible = rasterise(scene, planes[0], x, y, focal)
    picture = smooth_outlines(shade(scene, *planes, visible, x, y, focal), visible)
    labels = np.array([face.label for face in scene.faces], np.uint8)
    return expose(scene.rng, picture), labels[visible]


def plane_maps(scene: Scene) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Return for each face how rays meet it: maps (N, 3, 3), normals (N, 3), cell sizes (N,).

    The product of a map and a ray (x, y, 1) is (u, v, 1) divided by the depth. Normals are in
    camera axes. A whole number of texture cells fits in each face.
    """
    count = np.array([len(face.corners) for face in scene.faces])
    start = np.cumsum(count) - count
    owner = np.repeat(np.arange(len(count)), count)
    corners = np.concatenate([face.corners for face in scene.faces])
    right = unit(corners[start + 1] - corners[start])
    normal = unit(np.cross(right, corners[start + count - 1] - corners[start]))
    axes = np.stack([right, np.cross(normal, right)], axis=1)
    extent = np.einsum('nij,nj->ni', axes[owner], corners - corners[start][owner])
    low, high = np.minimum.reduceat(extent, start), np.maximum.reduceat(extent, start)
    cell = np.array([face.paint.cell for face in scene.faces])
    cell = (high - low) / np.maximum(np.round((high - low) / cell), 1)
    origin = corners[start] + np.einsum('nij,ni->nj', axes, low) - scene.camera.position
    frame = np.stack([axes[:, 0] * cell[:, :1], axes[:, 1] * cell[:, 1:], origin], axis=2)
    frame = scene.camera.rotation @ frame
    usable = np.abs(np.linalg.det(frame)) > 1e-9  # else the face is seen edge-on: nothing to draw
    frame[~usable] = np.eye(3)
    maps = np.linalg.inv(frame)
    maps[~usable] = 0
    return (maps.astype(np.float32), (normal @ scene.camera.rotation.T).astype(np.float32),
            cell.min(axis=1).astype(np.float32))


def unit(vectors: np.ndarray) -> np.ndarray:
    """Return vectors (..., 3) scaled to length 1."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def rasterise(scene: Scene, maps: np.ndarray, x: np.ndarray, y: np.ndarray,
              focal: float) -> np.ndarray:
    """Return the index of the nearest face (H, W) int32 of each pixel."""
    size = np.array([len(x), len(y)])
    nearest = np.zeros(size[::-1], np.float32)  # 1 / depth
    visible = np.zeros(size[::-1], np.int32)
    for i, face in enumerate(scene.faces):
        pixels = outline_in_view(scene.camera, face) * focal + (size - 1) / 2
        if not len(pixels):
            continue
        left, top = np.maximum(pixels.min(0), 0).astype(int)
        right, bottom = np.minimum(pixels.max(0) + 2, size).astype(int)
        if left >= right or top >= bottom:
            continue
        mask = np.zeros((bottom - top, right - left), np.uint8)
        outline = np.round((pixels - (left, top)) * 16).astype(np.int32)
        cv2.fillPoly(mask, [outline], 1, shift=4)
        a, b, c = maps[i, 2]
        inverse_depth = (b * y[top:bottom] + c)[:, None] + a * x[left:right]
        window, owner = nearest[top:bottom, left:right], visible[top:bottom, left:right]
        # The outsides of a solid do not hide each other: the last one takes the shared edge,
        # unless its plane, carried on beyond that edge, is far away from there.
        same_solid = owner >= face.first
        taken = mask.view(bool) & (inverse_depth > np.where(same_solid, window / 2, window))
        np.copyto(window, inverse_depth, where=taken)
        np.copyto(owner, i, where=taken)
    return visible


def outline_in_view(camera: Camera, face: Face) -> np.ndarray:
    """Return the picture (K, 2) at depth 1 of what of a face lies before the camera."""
    corners = (face.corners - camera.position) @ camera.rotation.T
    ahead = corners[:, 2] - NEAR
    kept = []
    for i in range(len(corners)):
        if (ahead[i - 1] < 0) != (ahead[i] < 0):
            share = ahead[i - 1] / (ahead[i - 1] - ahead[i])
            kept.append(corners[i - 1] + share * (corners[i] - corners[i - 1]))
        if ahead[i] >= 0:
            kept.append(corners[i])
    return np.array([corner[:2] / corner[2] for corner in kept]).reshape(-1, 2)


def shade(scene: Scene, maps: np.ndarray, normals: np.ndarray, cells: np.ndarray,
          visible: np.ndarray, x: np.ndarray, y: np.ndarray, focal: float) -> np.ndarray:
    """Return the light (H, W, 3) float32 that reaches the camera."""
    shape, index = visible.shape, visible.ravel()
    ray = np.ones((len(index), 3), np.float32)
    ray[:, 0], ray[:, 1] = np.tile(x, len(y)), np.repeat(y, len(x))
    plane = np.einsum('pij,pj->pi', maps[index], ray)
    depth = 1 / np.maximum(plane[:, 2], 1e-4)  # along an edge, planes can seem behind the camera
    normal = normals[index]
    slant = np.abs(np.einsum('pi,pi->p', normal, ray))
    sharp = np.clip(focal * slant * cells[index] / depth / 3 - 0.3, 0, 1)
    spots = Spots(np.clip(plane[:, 0] * depth, 0, 9999), np.clip(plane[:, 1] * depth, 0, 9999),
                  index, sharp)
    paints = [face.paint for face in scene.faces]
    first, second = (np.array([getattr(p, name) for p in paints], np.float32)[index]
                     for name in ('first', 'second'))
    colour = first + mix(paints, spots)[:, None] * (second - first)
    glow = np.array([p.glow for p in paints], np.float32)[index]
    light = illuminate(scene, ray * depth[:, None], normal, ray)
    colour *= light + glow[:, None] * (1 - light)
    haze = (1 - glow) * (1 - np.exp(-depth / np.float32(scene.light.clear)))
    colour += haze[:, None] * (scene.light.haze.astype(np.float32) - colour)
    return colour.reshape(*shape, 3)


def mix(paints: list[Paint], spots: Spots) -> np.ndarray:
    """Return how much of the second colour each pixel shows, (P,) float32."""
    textures = list(dict.fromkeys(p.texture for p in paints))
    number = np.array([textures.index(p.texture) for p in paints])[spots.face]
    result = np.zeros(len(number), np.float32)
    for i, texture in enumerate(textures):
        chosen = np.flatnonzero(number == i)
        if len(chosen):
            result[chosen] = texture(Spots(*(values[chosen] for values in spots)))
    return result


def illuminate(scene: Scene, point: np.ndarray, normal: np.ndarray, ray: np.ndarray) -> np.ndarray:
    """Return the light (P, 3) that falls on points (P, 3) in camera axes."""
    light, camera = scene.light, scene.camera
    towards = (camera.rotation @ (light.position - camera.position)).astype(np.float32) - point
    distance = np.sqrt(np.einsum('pi,pi->p', towards, towards))
    facing_camera = np.sign(np.einsum('pi,pi->p', normal, ray))
    slope = -facing_camera * np.einsum('pi,pi->p', normal, towards) / distance
    direct = np.clip(slope, 0, 1) / (1 + (distance / np.float32(light.reach)) ** 2)
    world = point @ camera.rotation.astype(np.float32) + camera.position.astype(np.float32)
    direct *= 1 - shadows(scene, world)
    return light.ambient + direct[:, None] * light.power.astype(np.float32)


def shadows(scene: Scene, world: np.ndarray) -> np.ndarray:
    """Return how much shadow, 0..1, lies on points (P, 3): none above the ground."""
    x, y, z = world.T
    here = scene.camera.position
    ground = np.flatnonzero((y < 0.1) & (np.abs(x - here[0]) < SHADOW_REACH)
                            & (np.abs(z - here[2]) < SHADOW_REACH))
    shadow = np.zeros(len(world), np.float32)
    if not len(ground):
        return shadow
    x, z = x[ground], z[ground]
    low, high = np.array([x.min(), z.min()]), np.array([x.max(), z.max()])
    scale = (SHADOW_CELLS - 1) / np.maximum(high - low, 1e-3)
    drawn = np.zeros((SHADOW_CELLS, SHADOW_CELLS), np.uint8)
    sun = scene.light.position
    for points in scene.casters:
        if np.abs(points[0] - here).max() > SHADOW_REACH:
            continue
        points = points[points[:, 1] < sun[1] - 0.1]
        if not len(points):
            continue
        fall = points[:, 1:2] / (sun[1] - points[:, 1:2])
        spread = ((points + (points - sun) * fall)[:, ::2] - low) * scale
        hull = cv2.convexHull(spread.astype(np.float32))
        cv2.fillConvexPoly(drawn, hull.round().astype(np.int32), 255)
    soft = cv2.blur(drawn, (7, 7))
    column, row = ((x - low[0]) * scale[0]).astype(int), ((z - low[1]) * scale[1]).astype(int)
    shadow[ground] = soft[row, column] * np.float32(1 / 255)
    return shadow


def smooth_outlines(picture: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Return the picture with the steps along the outlines of faces softened."""
    outline = cv2.morphologyEx(visible.astype(np.float32), cv2.MORPH_GRADIENT, AROUND) > 0
    soft = cv2.GaussianBlur(picture, (3, 3), 0.8)
    picture[outline] = soft[outline]
    return picture


def expose(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Return what a cheap sensor makes of the light: (H, W, 3) uint8 with cast, blur and noise."""
    height, width = picture.shape[:2]
    cast = 1 + rng.uniform(-0.1, 0.1, 3)
    radius = (np.linspace(-1, 1, height)[:, None] ** 2 + np.linspace(-1, 1, width) ** 2) / 2
    vignette = 1 - rng.uniform(0, 0.4) * radius
    gain = rng.uniform(0.35, 0.75) / max(float(picture.mean()), 1e-3)
    picture = picture * (vignette[..., None] * (cast * gain)).astype(np.float32)
    picture = np.sqrt(1 - np.exp(-picture))
    steep = np.float32(rng.uniform(0.3, 1.5))
    picture += steep * picture * (1 - picture) * (picture - np.float32(0.5))
    sigma = rng.choice([0.3, 0.45, 0.6, 0.75]) * max(width, height) / 240
    picture = cv2.GaussianBlur(picture, (0, 0), sigma)
    grain = rng.standard_normal(picture.shape, np.float32) * np.float32(rng.uniform(0.003, 0.02))
    return (np.clip(picture + grain, 0, 1) * 255 + 0.5).astype(np.uint8)


def random_palette(rng: np.random.Generator, count: int = 7) -> np.ndarray:
    """Return colours (count, 3), 0..1 in linear light, that go together but are any colours."""
    hue = (rng.random() + rng.choice([0, 0.06, -0.06, 0.5, 0.58], count)
           + rng.normal(0, 0.02, count)) % 1
    saturation = rng.uniform(0.03, 0.65, count) ** rng.choice([1, 2], count)
    value = rng.uniform(0.25, 0.95, count)
    hsv = np.stack([hue * 360, saturation, value], axis=1).astype(np.float32)
    return cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB)[0].astype(float) ** 2
