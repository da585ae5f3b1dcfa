"""What /predict takes and gives beside JSON: a file for each format, one for the headers, one for the route."""
