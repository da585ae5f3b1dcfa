"""Pictures of trainings, drawn by matplotlib from values of the domain; the only place that knows matplotlib."""
