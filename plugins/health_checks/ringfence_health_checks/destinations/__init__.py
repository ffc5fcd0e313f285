"""Where checks connect to and would like to: counted for each check and place, for suggestions and previews."""
