package server

import "time"

// SetPatience says how long a client may take for its headers, and for all of its request. Before Serve.
func (s *Server) SetPatience(headers, request time.Duration) { s.headers, s.request = headers, request }
