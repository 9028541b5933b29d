ran = []
