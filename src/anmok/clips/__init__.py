"""Video in and out, as a stream: whatever the length of a clip, a handful of its frames are in memory.

``frames`` gives the pictures of a clip as ``media`` gives those of a file: uint8 (H, W, 3), RGB, upright. One
policy for the odd ones:

=====================  ====================================================================
display matrix         applied, mirror images included (to the nearest right angle)
10 bit, 4:2:2, grey    to 8-bit RGB by libswscale
colour matrix, range   as tagged; untagged is BT.601 and limited, as in ffmpeg and OpenCV
HDR (PQ, HLG)          taken as it is: no tone mapping
transparency           composed over white
non-square pixels      left as stored
size changes midway    scaled to the size of the first frame
several video streams  the one that libavformat calls best; cover art is no video
times                  seconds since the first frame of the stream
damaged frames         reported and left out, with their number kept (``on_broken``)
over 50 Mpx a frame    refused from the header (``ANMOK_MAX_PIXELS``)
too many frames        refused where ``ANMOK_MAX_FRAMES`` is set
playlists, addresses   refused: libav is handed an open file, never a name
=====================  ====================================================================

Everything here needs PyAV (``pip install 'anmok[video]'``), but for clips that are pictures.
"""

from __future__ import annotations

from anmok.clips.listening import SOUND_SUFFIXES, Samples, SoundSource, Wanted, heard
from anmok.clips.opening import CONTAINERS, VIDEO_SUFFIXES
from anmok.clips.probing import ClipFacts, probe
from anmok.clips.sampling import sampled
from anmok.clips.stills import ClipSource, OnBroken, Still, frames, max_frames
from anmok.clips.writing import CODECS, SUFFIXES, Writer

__all__ = [
    "CODECS",
    "CONTAINERS",
    "SOUND_SUFFIXES",
    "SUFFIXES",
    "VIDEO_SUFFIXES",
    "ClipFacts",
    "ClipSource",
    "OnBroken",
    "Samples",
    "SoundSource",
    "Still",
    "Wanted",
    "Writer",
    "frames",
    "heard",
    "max_frames",
    "probe",
    "sampled",
]
