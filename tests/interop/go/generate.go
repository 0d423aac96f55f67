package main

//go:generate sh -c "go install tool && rm -rf ocigrpc && protoc --proto_path=$PROTOS --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative $PROTOS/ocigrpc/v1/*.proto"
