package rest

// nearest finds the name that somebody may have meant; "": none is near.
func nearest(name string, names []string) string {
	const farthest = 4
	if len(name) > 63 { // names in PostgreSQL are no longer
		return ""
	}
	best, distance := "", min(farthest, len(name)/2+1)
	for _, other := range names {
		if d := editDistance(name, other); d < distance {
			best, distance = other, d
		}
	}
	return best
}

// editDistance is how many bytes must be changed, put in or left out to get from a to b.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := before
			if a[i] != b[j] {
				cost = 1 + min(before, row[j], row[j+1])
			}
			before, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
