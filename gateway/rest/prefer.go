package rest

import (
	"mime"
	"net/http"
	"strconv"
	"strings"
)

// preferences are what the headers Prefer, Accept and Range ask for.
type preferences struct {
	returns      string // representation, minimal, headers-only or ""
	count        bool
	resolution   string // merge-duplicates, ignore-duplicates or ""
	missing      string // default, null or ""
	maxAffected  int64  // -1: no limit
	rollback     bool
	applied      []string
	single       bool // one object instead of a list
	stripNulls   bool
	rangeFrom    int64
	rangeTo      int64 // -1: open
	hasRange     bool
	wantsNothing bool // HEAD
}

// readHeaders reads what the headers of a request ask for, and refuses what this door does not do.
func readHeaders(r *http.Request) (preferences, error) {
	p := preferences{maxAffected: -1, wantsNothing: r.Method == http.MethodHead}
	if err := checkProfile(r); err != nil {
		return p, err
	}
	if err := p.accept(r.Header.Values("Accept")); err != nil {
		return p, err
	}
	for _, line := range r.Header.Values("Prefer") {
		for item := range strings.SplitSeq(line, ",") {
			if item = strings.TrimSpace(item); item == "" {
				continue
			}
			if err := p.prefer(item); err != nil {
				return p, err
			}
		}
	}
	return p, p.readRange(r)
}

// checkProfile refuses every schema but public.
func checkProfile(r *http.Request) error {
	name := "Content-Profile"
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		name = "Accept-Profile"
	}
	if profile := r.Header.Get(name); profile != "" && profile != "public" {
		return refuse(codeSchema, "Invalid schema: "+shortened(profile), "", "Only the following schemas are exposed: public")
	}
	return nil
}

// accept takes the first media type that this door has.
func (p *preferences) accept(lines []string) error {
	wanted := strings.Join(lines, ",")
	if strings.TrimSpace(wanted) == "" {
		return nil
	}
	for item := range strings.SplitSeq(wanted, ",") {
		media, params, err := mime.ParseMediaType(item)
		if err != nil {
			continue
		}
		switch media {
		case "application/json", "*/*", "application/*":
			return nil
		case "application/vnd.pgrst.object+json", "application/vnd.pgrst.object":
			p.single = true
		case "application/vnd.pgrst.array+json", "application/vnd.pgrst.array":
		default:
			continue
		}
		p.stripNulls = params["nulls"] == "stripped"
		return nil
	}
	return refuse(codeMedia, "None of these media types are available: "+shortened(wanted), "", "Ask for application/json.")
}

func (p *preferences) prefer(item string) error {
	name, value, _ := strings.Cut(item, "=")
	name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
	known := true
	switch {
	case name == "return" && (value == "representation" || value == "minimal" || value == "headers-only"):
		p.returns = value
	case name == "count" && (value == "exact" || value == "planned" || value == "estimated"):
		p.count, item = true, "count=exact" // the exact one is the best estimate
	case name == "resolution" && (value == "merge-duplicates" || value == "ignore-duplicates"):
		p.resolution = value
	case name == "missing" && (value == "default" || value == "null"):
		p.missing = value
	case name == "handling" && (value == "strict" || value == "lenient"):
	case name == "tx" && (value == "commit" || value == "rollback"):
		p.rollback = value == "rollback"
	case name == "max-affected":
		limit, err := strconv.ParseInt(value, 10, 32)
		known = err == nil && limit >= 0
		p.maxAffected = limit
	default:
		known = false
	}
	if !known {
		return refuse(codePreference, "Preference not implemented: "+shortened(item), "",
			"Prefer takes return, count, resolution, missing, handling, max-affected and tx.")
	}
	p.applied = append(p.applied, item)
	return nil
}

// readRange reads `Range: 0-9`, in rows.
func (p *preferences) readRange(r *http.Request) error {
	text := r.Header.Get("Range")
	if text == "" || r.Method != http.MethodGet && r.Method != http.MethodHead {
		return nil
	}
	unit := r.Header.Get("Range-Unit")
	from, to, ok := strings.Cut(strings.TrimPrefix(text, "items="), "-")
	p.rangeTo = -1
	var err error
	if p.rangeFrom, err = strconv.ParseInt(from, 10, 48); err != nil {
		ok = false
	}
	if to != "" {
		if p.rangeTo, err = strconv.ParseInt(to, 10, 48); err != nil || p.rangeTo < p.rangeFrom {
			ok = false
		}
	}
	if !ok || p.rangeFrom < 0 || unit != "" && unit != "items" {
		return refuse(codeRange, "Range not implemented: "+shortened(text), "", "A range of rows looks like `Range: 0-9`.")
	}
	p.hasRange = true
	return nil
}

// only refuses preferences that mean nothing to this kind of request, so that none is ignored.
func (p *preferences) only(kind string, names ...string) error {
	for _, item := range p.applied {
		name, _, _ := strings.Cut(item, "=")
		switch name {
		case "return", "count", "handling", "tx":
			continue
		}
		allowed := false
		for _, other := range names {
			allowed = allowed || other == name
		}
		if !allowed {
			return refuse(codePreference, "Preference not implemented for "+kind+": "+item, "", "")
		}
	}
	return nil
}

const shownCharacters = 200

// shortened bounds what an error repeats of a request.
func shortened(text string) string {
	text = strings.ToValidUTF8(text, "?")
	if runes := []rune(text); len(runes) > shownCharacters {
		return string(runes[:shownCharacters]) + "..."
	}
	return text
}
