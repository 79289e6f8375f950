from plan_fixtures import planned_bundle, rtx

__all__ = ["planned_bundle", "rtx"]
