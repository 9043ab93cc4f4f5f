SELECT {{key}} FROM {{dimension}} WHERE placeholder AND {{key}} <> ''
