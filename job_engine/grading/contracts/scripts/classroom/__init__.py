"""The harness of GitHub Classroom's tests; it runs in the sandbox, beside the submission."""
