package clients_test

import "testing"

func TestLiveChangesInNode(t *testing.T) { inNode(t, "live.mjs") }

func TestLiveChangesInChromium(t *testing.T) { inChromium(t, "live.mjs") }
