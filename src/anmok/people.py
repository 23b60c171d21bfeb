"""Points and parts of the human body, as the data sets count them: names, what a skeleton joins, what a mirror swaps.

Facts of the annotations, no code of anybody's. COCO: Lin et al., "Microsoft COCO: Common Objects in Context" (ECCV
2014). COCO-WholeBody: Jin et al., "Whole-Body Human Pose Estimation in the Wild" (ECCV 2020), whose 68 points of the
face are numbered as in 300-W and have no names. The 308 points and the 28 and 29 parts are those of Sapiens and
Sapiens 2 (github.com/facebookresearch/sapiens at 3e829ac, pose/configs/_base_/datasets/goliath.py and
docs/SEG_README.md; facebookresearch/sapiens2 at 3098c14, docs/SEG.md). Left and right are the person's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

Edges = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Skeleton:
    """A set of K points: their ``names``, the ``edges`` (pairs of indices) that are drawn as bones, and for each point
    its partner on the other side of the body in ``partners``, which is the point itself on the middle line."""

    names: tuple[str, ...]
    edges: Edges
    partners: tuple[int, ...]


def skeleton(points: int) -> Skeleton:
    """The set of that many points: 17 (COCO), 133 (COCO-WholeBody) or 308 (Sapiens).

    Raises:
        KeyError: there is no such set.
    """
    return {len(one.names): one for one in (COCO, WHOLEBODY, SAPIENS)}[points]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _edges(text: str) -> Edges:
    pairs = (bone.split("-") for bone in text.split())
    return tuple((int(start), int(end)) for start, end in pairs)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split())


def _swapped(names: tuple[str, ...]) -> tuple[int, ...]:
    """Partners by name: left_x and right_x."""
    sides = {"left": "right", "right": "left"}
    other = [sides.get(side, side) + dash + rest for side, dash, rest in (name.partition("_") for name in names)]
    return tuple(names.index(name) for name in other)


def _hand(wrist: int, first: int, step: int) -> Edges:
    """The bones of a hand whose five fingers of four points each lie one after the other, from a base to a tip
    (``step`` 1) or from a tip to a base (-1)."""
    fingers = [range(start, start + 4)[::step] for start in range(first, first + 20, 4)]
    return tuple(bone for finger in fingers for bone in pairwise((wrist, *finger)))


_BODY_NAMES = _words(
    """
    nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow left_wrist
    right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle
    """
)
_FOOT_NAMES = _words("left_big_toe left_small_toe left_heel right_big_toe right_small_toe right_heel")
_FINGERS = ("thumb", "forefinger", "middle_finger", "ring_finger", "pinky_finger")
_BODY_EDGES = _edges("15-13 13-11 16-14 14-12 11-12 5-11 6-12 5-6 5-7 6-8 7-9 8-10 1-2 0-1 0-2 1-3 2-4 3-5 4-6")

COCO = Skeleton(_BODY_NAMES, _BODY_EDGES, _swapped(_BODY_NAMES))

_HAND_NAMES = ("hand_root", *(f"{finger}{i}" for finger in _FINGERS for i in range(1, 5)))
_WHOLEBODY_NAMES = (
    *_BODY_NAMES,
    *_FOOT_NAMES,
    *(f"face-{i}" for i in range(68)),
    *(f"{side}_{name}" for side in ("left", "right") for name in _HAND_NAMES),
)
_FACE_PARTNERS = _numbers(
    """
    16 15 14 13 12 11 10 9 8 7 6 5 4 3 2 1 0 26 25 24 23 22 21 20 19 18 17 27 28 29 30 35 34 33 32 31 45 44 43
    42 47 46 39 38 37 36 41 40 54 53 52 51 50 49 48 59 58 57 56 55 64 63 62 61 60 67 66 65
    """
)
_FOOT_EDGES = _edges("15-17 15-18 15-19 16-20 16-21 16-22")
WHOLEBODY = Skeleton(
    _WHOLEBODY_NAMES,
    (*_BODY_EDGES, *_FOOT_EDGES, *_hand(91, 92, 1), *_hand(112, 113, 1)),
    (
        *_swapped(_WHOLEBODY_NAMES[:23]),
        *(23 + i for i in _FACE_PARTNERS),
        *range(112, 133),
        *range(91, 112),
    ),
)

_SAPIENS_NAMES = _words(
    """
    nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow left_hip
    right_hip left_knee right_knee left_ankle right_ankle left_big_toe left_small_toe left_heel right_big_toe
    right_small_toe right_heel right_thumb4 right_thumb3 right_thumb2 right_thumb_third_joint right_forefinger4
    right_forefinger3 right_forefinger2 right_forefinger_third_joint right_middle_finger4 right_middle_finger3
    right_middle_finger2 right_middle_finger_third_joint right_ring_finger4 right_ring_finger3
    right_ring_finger2 right_ring_finger_third_joint right_pinky_finger4 right_pinky_finger3 right_pinky_finger2
    right_pinky_finger_third_joint right_wrist left_thumb4 left_thumb3 left_thumb2 left_thumb_third_joint
    left_forefinger4 left_forefinger3 left_forefinger2 left_forefinger_third_joint left_middle_finger4
    left_middle_finger3 left_middle_finger2 left_middle_finger_third_joint left_ring_finger4 left_ring_finger3
    left_ring_finger2 left_ring_finger_third_joint left_pinky_finger4 left_pinky_finger3 left_pinky_finger2
    left_pinky_finger_third_joint left_wrist left_olecranon right_olecranon left_cubital_fossa
    right_cubital_fossa left_acromion right_acromion neck center_of_glabella center_of_nose_root
    tip_of_nose_bridge midpoint_1_of_nose_bridge midpoint_2_of_nose_bridge midpoint_3_of_nose_bridge
    center_of_labiomental_groove tip_of_chin upper_startpoint_of_r_eyebrow lower_startpoint_of_r_eyebrow
    end_of_r_eyebrow upper_midpoint_1_of_r_eyebrow lower_midpoint_1_of_r_eyebrow upper_midpoint_2_of_r_eyebrow
    upper_midpoint_3_of_r_eyebrow lower_midpoint_2_of_r_eyebrow lower_midpoint_3_of_r_eyebrow
    upper_startpoint_of_l_eyebrow lower_startpoint_of_l_eyebrow end_of_l_eyebrow upper_midpoint_1_of_l_eyebrow
    lower_midpoint_1_of_l_eyebrow upper_midpoint_2_of_l_eyebrow upper_midpoint_3_of_l_eyebrow
    lower_midpoint_2_of_l_eyebrow lower_midpoint_3_of_l_eyebrow l_inner_end_of_upper_lash_line
    l_outer_end_of_upper_lash_line l_centerpoint_of_upper_lash_line l_midpoint_2_of_upper_lash_line
    l_midpoint_1_of_upper_lash_line l_midpoint_6_of_upper_lash_line l_midpoint_5_of_upper_lash_line
    l_midpoint_4_of_upper_lash_line l_midpoint_3_of_upper_lash_line l_outer_end_of_upper_eyelid_line
    l_midpoint_6_of_upper_eyelid_line l_midpoint_2_of_upper_eyelid_line l_midpoint_5_of_upper_eyelid_line
    l_centerpoint_of_upper_eyelid_line l_midpoint_4_of_upper_eyelid_line l_midpoint_1_of_upper_eyelid_line
    l_midpoint_3_of_upper_eyelid_line l_midpoint_6_of_upper_crease_line l_midpoint_2_of_upper_crease_line
    l_midpoint_5_of_upper_crease_line l_centerpoint_of_upper_crease_line l_midpoint_4_of_upper_crease_line
    l_midpoint_1_of_upper_crease_line l_midpoint_3_of_upper_crease_line r_inner_end_of_upper_lash_line
    r_outer_end_of_upper_lash_line r_centerpoint_of_upper_lash_line r_midpoint_1_of_upper_lash_line
    r_midpoint_2_of_upper_lash_line r_midpoint_3_of_upper_lash_line r_midpoint_4_of_upper_lash_line
    r_midpoint_5_of_upper_lash_line r_midpoint_6_of_upper_lash_line r_outer_end_of_upper_eyelid_line
    r_midpoint_3_of_upper_eyelid_line r_midpoint_1_of_upper_eyelid_line r_midpoint_4_of_upper_eyelid_line
    r_centerpoint_of_upper_eyelid_line r_midpoint_5_of_upper_eyelid_line r_midpoint_2_of_upper_eyelid_line
    r_midpoint_6_of_upper_eyelid_line r_midpoint_3_of_upper_crease_line r_midpoint_1_of_upper_crease_line
    r_midpoint_4_of_upper_crease_line r_centerpoint_of_upper_crease_line r_midpoint_5_of_upper_crease_line
    r_midpoint_2_of_upper_crease_line r_midpoint_6_of_upper_crease_line l_inner_end_of_lower_lash_line
    l_outer_end_of_lower_lash_line l_centerpoint_of_lower_lash_line l_midpoint_2_of_lower_lash_line
    l_midpoint_1_of_lower_lash_line l_midpoint_6_of_lower_lash_line l_midpoint_5_of_lower_lash_line
    l_midpoint_4_of_lower_lash_line l_midpoint_3_of_lower_lash_line l_outer_end_of_lower_eyelid_line
    l_midpoint_6_of_lower_eyelid_line l_midpoint_2_of_lower_eyelid_line l_midpoint_5_of_lower_eyelid_line
    l_centerpoint_of_lower_eyelid_line l_midpoint_4_of_lower_eyelid_line l_midpoint_1_of_lower_eyelid_line
    l_midpoint_3_of_lower_eyelid_line r_inner_end_of_lower_lash_line r_outer_end_of_lower_lash_line
    r_centerpoint_of_lower_lash_line r_midpoint_1_of_lower_lash_line r_midpoint_2_of_lower_lash_line
    r_midpoint_3_of_lower_lash_line r_midpoint_4_of_lower_lash_line r_midpoint_5_of_lower_lash_line
    r_midpoint_6_of_lower_lash_line r_outer_end_of_lower_eyelid_line r_midpoint_3_of_lower_eyelid_line
    r_midpoint_1_of_lower_eyelid_line r_midpoint_4_of_lower_eyelid_line r_centerpoint_of_lower_eyelid_line
    r_midpoint_5_of_lower_eyelid_line r_midpoint_2_of_lower_eyelid_line r_midpoint_6_of_lower_eyelid_line
    tip_of_nose bottom_center_of_nose r_outer_corner_of_nose l_outer_corner_of_nose inner_corner_of_r_nostril
    outer_corner_of_r_nostril upper_corner_of_r_nostril inner_corner_of_l_nostril outer_corner_of_l_nostril
    upper_corner_of_l_nostril r_outer_corner_of_mouth l_outer_corner_of_mouth center_of_cupid_bow
    center_of_lower_outer_lip midpoint_1_of_upper_outer_lip midpoint_2_of_upper_outer_lip
    midpoint_1_of_lower_outer_lip midpoint_2_of_lower_outer_lip midpoint_3_of_upper_outer_lip
    midpoint_4_of_upper_outer_lip midpoint_5_of_upper_outer_lip midpoint_6_of_upper_outer_lip
    midpoint_3_of_lower_outer_lip midpoint_4_of_lower_outer_lip midpoint_5_of_lower_outer_lip
    midpoint_6_of_lower_outer_lip r_inner_corner_of_mouth l_inner_corner_of_mouth center_of_upper_inner_lip
    center_of_lower_inner_lip midpoint_1_of_upper_inner_lip midpoint_2_of_upper_inner_lip
    midpoint_1_of_lower_inner_lip midpoint_2_of_lower_inner_lip midpoint_3_of_upper_inner_lip
    midpoint_4_of_upper_inner_lip midpoint_5_of_upper_inner_lip midpoint_6_of_upper_inner_lip
    midpoint_3_of_lower_inner_lip midpoint_4_of_lower_inner_lip midpoint_5_of_lower_inner_lip
    midpoint_6_of_lower_inner_lip l_top_end_of_inferior_crus l_top_end_of_superior_crus l_start_of_antihelix
    l_end_of_antihelix l_midpoint_1_of_antihelix l_midpoint_1_of_inferior_crus l_midpoint_2_of_antihelix
    l_midpoint_3_of_antihelix l_point_1_of_inner_helix l_point_2_of_inner_helix l_point_3_of_inner_helix
    l_point_4_of_inner_helix l_point_5_of_inner_helix l_point_6_of_inner_helix l_point_7_of_inner_helix
    l_highest_point_of_antitragus l_bottom_point_of_tragus l_protruding_point_of_tragus l_top_point_of_tragus
    l_start_point_of_crus_of_helix l_deepest_point_of_concha l_tip_of_ear_lobe l_midpoint_between_22_15
    l_bottom_connecting_point_of_ear_lobe l_top_connecting_point_of_helix l_point_8_of_inner_helix
    r_top_end_of_inferior_crus r_top_end_of_superior_crus r_start_of_antihelix r_end_of_antihelix
    r_midpoint_1_of_antihelix r_midpoint_1_of_inferior_crus r_midpoint_2_of_antihelix r_midpoint_3_of_antihelix
    r_point_1_of_inner_helix r_point_8_of_inner_helix r_point_3_of_inner_helix r_point_4_of_inner_helix
    r_point_5_of_inner_helix r_point_6_of_inner_helix r_point_7_of_inner_helix r_highest_point_of_antitragus
    r_bottom_point_of_tragus r_protruding_point_of_tragus r_top_point_of_tragus r_start_point_of_crus_of_helix
    r_deepest_point_of_concha r_tip_of_ear_lobe r_midpoint_between_22_15 r_bottom_connecting_point_of_ear_lobe
    r_top_connecting_point_of_helix r_point_2_of_inner_helix l_center_of_iris l_border_of_iris_3
    l_border_of_iris_midpoint_1 l_border_of_iris_12 l_border_of_iris_midpoint_4 l_border_of_iris_9
    l_border_of_iris_midpoint_3 l_border_of_iris_6 l_border_of_iris_midpoint_2 r_center_of_iris
    r_border_of_iris_3 r_border_of_iris_midpoint_1 r_border_of_iris_12 r_border_of_iris_midpoint_4
    r_border_of_iris_9 r_border_of_iris_midpoint_3 r_border_of_iris_6 r_border_of_iris_midpoint_2
    l_center_of_pupil l_border_of_pupil_3 l_border_of_pupil_midpoint_1 l_border_of_pupil_12
    l_border_of_pupil_midpoint_4 l_border_of_pupil_9 l_border_of_pupil_midpoint_3 l_border_of_pupil_6
    l_border_of_pupil_midpoint_2 r_center_of_pupil r_border_of_pupil_3 r_border_of_pupil_midpoint_1
    r_border_of_pupil_12 r_border_of_pupil_midpoint_4 r_border_of_pupil_9 r_border_of_pupil_midpoint_3
    r_border_of_pupil_6 r_border_of_pupil_midpoint_2
    """
)
_SAPIENS_PARTNERS = _numbers(
    """
    0 2 1 4 3 6 5 8 7 10 9 12 11 14 13 18 19 20 15 16 17 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59
    60 61 62 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39 40 41 64 63 66 65 68 67 69 70 71 72 73 74
    75 76 77 87 88 89 90 91 93 92 95 94 78 79 80 81 82 84 83 86 85 120 121 122 123 124 125 126 127 128 129 130
    131 132 133 134 135 136 137 138 139 140 141 142 143 96 97 98 99 100 101 102 103 104 105 106 107 108 109 110
    111 112 113 114 115 116 117 118 119 161 162 163 164 165 166 167 168 169 170 171 172 173 174 175 176 177 144
    145 146 147 148 149 150 151 152 153 154 155 156 157 158 159 160 178 179 181 180 185 186 187 182 183 184 189
    188 190 191 193 192 195 194 199 198 197 196 203 202 201 200 205 204 206 207 209 208 211 210 215 214 213 212
    219 218 217 216 246 247 248 249 250 251 252 253 254 255 256 257 258 259 260 261 262 263 264 265 266 267 268
    269 270 271 220 221 222 223 224 225 226 227 228 229 230 231 232 233 234 235 236 237 238 239 240 241 242 243
    244 245 281 286 285 284 283 282 289 288 287 272 277 276 275 274 273 280 279 278 299 304 303 302 301 300 307
    306 305 290 295 294 293 292 291 298 297 296
    """
)
_SAPIENS_EDGES = _edges(
    """
    13-11 11-9 14-12 12-10 9-10 5-9 6-10 5-6 5-7 6-8 7-62 8-41 1-2 0-1 0-2 1-3 2-4 3-5 4-6 13-15 13-16 13-17 14-18
    14-19 14-20
    """
)
SAPIENS = Skeleton(_SAPIENS_NAMES, (*_SAPIENS_EDGES, *_hand(62, 42, -1), *_hand(41, 21, -1)), _SAPIENS_PARTNERS)

PARTS_28 = _words(
    """
    Background Apparel Face_Neck Hair Left_Foot Left_Hand Left_Lower_Arm Left_Lower_Leg Left_Shoe Left_Sock
    Left_Upper_Arm Left_Upper_Leg Lower_Clothing Right_Foot Right_Hand Right_Lower_Arm Right_Lower_Leg
    Right_Shoe Right_Sock Right_Upper_Arm Right_Upper_Leg Torso Upper_Clothing Lower_Lip Upper_Lip Lower_Teeth
    Upper_Teeth Tongue
    """
)
PARTS_29 = _words(
    """
    Background Apparel Eyeglass Face_Neck Hair Left_Foot Left_Hand Left_Lower_Arm Left_Lower_Leg Left_Shoe
    Left_Sock Left_Upper_Arm Left_Upper_Leg Lower_Clothing Right_Foot Right_Hand Right_Lower_Arm Right_Lower_Leg
    Right_Shoe Right_Sock Right_Upper_Arm Right_Upper_Leg Torso Upper_Clothing Lower_Lip Upper_Lip Lower_Teeth
    Upper_Teeth Tongue
    """
)
