"""The model of a run: its learner, generators, mechanism and optimizer, on its replicas."""

from tfdps import generators, questions, replicas, schedule
from tfdps.image_gradient import ImageGradientLearner
from tfdps.mechanisms.joint import JointMechanism
from tfdps.mechanisms.none import NoMechanism
from tfdps.mechanisms.per_record import PerRecordMechanism
from tfdps.moment_learner import Finish, MomentLearner
from tfdps.trainer import DPSinkhorn


def build_generator(config, spec, *, precision="float32"):
    """Returns a new generator of a run's architecture, for the data set of `spec`."""
    atoms = {"num_atoms": config.num_atoms} if config.mechanism == "per_record" else {}
    return generators.build(
        config.generator,
        image_shape=spec.image_shape,
        num_classes=spec.num_classes,
        latent_dim=config.latent_dim,
        precision=precision,
        **atoms,
    )


def build_model(config, spec, plan, *, on=None):
    """Returns the DPSinkhorn model of a run.

    Args:
      config: the RunConfig.
      spec: the DatasetSpec.
      plan: the PrivacyPlan.
      on: the Replicas to run on; default: one device.
    """
    on = on or replicas.Replicas()
    learner = _moments if config.mechanism == "per_record" else _image_gradients
    return DPSinkhorn(learner(config, spec, plan, on))


def _moments(config, spec, plan, on):
    settings = questions.Settings(
        image_shape=spec.image_shape,
        num_classes=spec.num_classes,
        class_size=plan.batch_size / spec.num_classes,
        rank=config.latent_dim - 1,
        clip_norm=plan.clip_norm,
        regularization=config.regularization,
    )
    return MomentLearner(
        # Of no strategy: every worker sets it from the released moments, and no replica trains it.
        # TensorFlow's collectives could not share its tables of bytes.
        build_generator(config, spec),
        PerRecordMechanism(on=on),
        plan=plan,
        schedule=schedule.of(config.num_atoms),
        settings=settings,
        finish=Finish(grain=config.grain, warp=config.warp, mirror=config.mirror),
        on=on,
    )


def _image_gradients(config, spec, plan, on):
    with on.scope():
        if plan.private:
            mechanism = JointMechanism(
                clip_norm=plan.clip_norm,
                noise_multiplier=plan.noise_multiplier,
                learning_rate=config.learning_rate,
            )
        else:
            mechanism = NoMechanism(learning_rate=config.learning_rate)
        return ImageGradientLearner(
            *(build_generator(config, spec, precision=config.precision) for _ in range(2)),
            mechanism,
            config=config,
            num_classes=spec.num_classes,
            on=on,
        )
