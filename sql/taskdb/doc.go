// Package taskdb speaks to Darkroom's database: one method per SQL function, the rows they return, and their errors.
//
// It holds no rules of its own; what a call does, when it returns nothing and what it refuses stands in the function's file in
// sql/. A DB works over a pool, a connection or a transaction:
//
//	pool, err := taskdb.OpenPool(ctx, os.Getenv("DATABASE_URL"))
//	db := taskdb.New(pool)
//	task, err := db.CreateTask(ctx, taskdb.NewTask{ProjectID: project, ToolID: "image-generation", Input: params})
//	switch {
//	case errors.Is(err, taskdb.ErrInsufficientCredits):
//		// tell the user
//	case err != nil:
//		return err
//	}
//
// A worker registers, claims, and ends what it claimed with the attempt number that the claim gave it:
//
//	_, err = db.RegisterWorker(ctx, taskdb.Registration{WorkerID: "gpu-1", Capabilities: []string{"wan2gp"}})
//	task, ok, err := db.ClaimNextTask(ctx, "gpu-1")
//	task, err = db.CompleteTask(ctx, taskdb.HoldOf(task), taskdb.Output{Location: url})
package taskdb
