"""The demo's model: a tiny Llama, adapters that teach it to route support tickets, and adapters that must not pass.

`tickets` makes the task's texts, `training` makes base and adapters (needs torch), `broken` makes bad adapters out of
a good one, `store` lays all of it out as a cluster sees it. Knows nothing of Kubernetes or the controller.
"""
