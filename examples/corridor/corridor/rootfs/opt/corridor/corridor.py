"""An environment: a corridor with a reward at its right end."""

import gymnasium as gym
import numpy as np
import pygame
from gymnasium.spaces import Box, Discrete

LEFT, RIGHT = 0, 1
TILE = 16
"""Width and height of a drawn tile, in pixels."""


class Corridor(gym.Env):
    """A corridor of `length` tiles. Each step has the reward -0.1, the last one 1."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, config=None, render_mode=None):
        self.length = int((config or {}).get("length", 5))
        self.render_mode = render_mode
        self.action_space = Discrete(2)
        self.observation_space = Box(0.0, float(self.length), shape=(1,), dtype=np.float32)
        self._place = 0

    def reset(self, *, seed=None, options=None):
        """Go back to the left end. Return the first observation."""
        super().reset(seed=seed)
        self._place = 0
        return self._seen(), {}

    def step(self, action):
        """Move one tile to the left or right."""
        self._place = max(0, self._place + (1 if action == RIGHT else -1))
        there = self._place >= self.length
        return self._seen(), 1.0 if there else -0.1, there, False, {}

    def render(self):
        """Draw the walker and the goal from above. Return an array of height x width x RGB."""
        picture = pygame.Surface(((self.length + 1) * TILE, TILE))
        for place, colour in ((self.length, "gold"), (self._place, "blue")):
            picture.fill(colour, (place * TILE, 0, TILE, TILE))
        return np.transpose(pygame.surfarray.array3d(picture), (1, 0, 2))

    def _seen(self):
        return np.array([self._place], dtype=np.float32)
