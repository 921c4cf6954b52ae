"""Train CartPole with Clipped PPO for a few short iterations: enough to test that training works."""

from rl_coach.agents.clipped_ppo_agent import ClippedPPOAgentParameters
from rl_coach.base_parameters import VisualizationParameters
from rl_coach.core_types import EnvironmentEpisodes, EnvironmentSteps
from rl_coach.environments.gym_environment import GymVectorEnvironment
from rl_coach.graph_managers.basic_rl_graph_manager import BasicRLGraphManager
from rl_coach.graph_managers.graph_manager import ScheduleParameters

schedule = ScheduleParameters()
schedule.heatup_steps = EnvironmentSteps(0)
schedule.improve_steps = EnvironmentSteps(1000)
schedule.steps_between_evaluation_periods = EnvironmentSteps(500)
schedule.evaluation_steps = EnvironmentEpisodes(5)

agent = ClippedPPOAgentParameters()
agent.algorithm.num_consecutive_playing_steps = EnvironmentSteps(500)
agent.algorithm.optimization_epochs = 2

graph_manager = BasicRLGraphManager(
    agent_params=agent,
    env_params=GymVectorEnvironment(level="CartPole-v0"),
    schedule_params=schedule,
    vis_params=VisualizationParameters(),
)
