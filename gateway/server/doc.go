// Package server is Darkroom's HTTP door: functions under /functions/v1, tasks, generations, stored files, health.
//
// It is thin. A handler reads the request, calls one SQL function through package taskdb and writes its answer; every rule stands
// in SQL. All errors leave by one place, errors.go, in one shape.
//
//	if err := server.Migrate(ctx, databaseURL); err != nil {
//		return err
//	}
//	gateway, err := server.Open(ctx, server.Config{DatabaseURL: databaseURL, StorageURL: "file:///srv/media", ServiceKey: key, Log: log})
//	if err != nil {
//		return err
//	}
//	defer gateway.Close()
//	listener, err := server.Listen(ctx, "127.0.0.1:8484")
//	if err != nil {
//		return err
//	}
//	return gateway.Serve(ctx, listener) // until ctx ends, then drains
package server
