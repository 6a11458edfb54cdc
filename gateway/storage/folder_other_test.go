//go:build !linux

package storage_test

import "errors"

const smallDisk = "DARKROOM_TEST_SMALL_DISK"

func putOnSmallDisk(string) error { return errors.New("only Linux has disks of one's own") }
