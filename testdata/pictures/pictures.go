// Package pictures holds the photographs of the sample travel. README.md in the folder above names their authors and licences.
package pictures

import "embed"

// FS holds the three files.
//
//go:embed *.jpg
var FS embed.FS

// Names lists them in the order of the travel.
func Names() []string { return []string{"coffee.jpg", "cat.jpg", "rocket.jpg"} }
