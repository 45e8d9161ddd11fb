"""What creating and cancelling jobs takes, beside storing them.

`payloads` and `schema_bounds` check a payload against its action's JSON Schema,
`references` and `callbacks` what a new job names, `children` belong to bulk jobs, and
`scheduled` makes the documents of periodic jobs. The resource type is `types/job.py`.
"""
