"""A corridor as an environment: walk right to its end, where the reward is."""

import gymnasium as gym
import numpy as np
import pygame
from gymnasium.spaces import Box, Discrete

LEFT, RIGHT = 0, 1
TILE = 16
"""Pixels."""


class Corridor(gym.Env):
    """`length` tiles long; each step costs 0.1, the end pays 1."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, config=None, render_mode=None):
        self.length = int((config or {}).get("length", 5))
        self.render_mode = render_mode
        self.action_space = Discrete(2)
        self.observation_space = Box(0.0, float(self.length), shape=(1,), dtype=np.float32)
        self._place = 0

    def reset(self, *, seed=None, options=None):
        """Back to the left."""
        super().reset(seed=seed)
        self._place = 0
        return self._seen(), {}

    def step(self, action):
        """One tile to the left or right."""
        self._place = max(0, self._place + (1 if action == RIGHT else -1))
        there = self._place >= self.length
        return self._seen(), 1.0 if there else -0.1, there, False, {}

    def render(self):
        """The walker and the goal from above, as height x width x RGB."""
        picture = pygame.Surface(((self.length + 1) * TILE, TILE))
        for place, colour in ((self.length, "gold"), (self._place, "blue")):
            picture.fill(colour, (place * TILE, 0, TILE, TILE))
        return np.transpose(pygame.surfarray.array3d(picture), (1, 0, 2))

    def _seen(self):
        return np.array([self._place], dtype=np.float32)
