BEGIN TRANSACTION;
CREATE TABLE failures (
  file INTEGER NOT NULL, ordinal INTEGER NOT NULL, page INTEGER, stage TEXT NOT NULL,
  error_type TEXT NOT NULL, message TEXT NOT NULL, PRIMARY KEY (file, ordinal)) WITHOUT ROWID;
INSERT INTO "failures" VALUES(3,-1,NULL,'parse','damaged-pdf','not a readable PDF: its structure is damaged');
INSERT INTO "failures" VALUES(10,1048576,2,'parse','damaged-page','no such font');
CREATE TABLE files (
  id INTEGER PRIMARY KEY, source TEXT NOT NULL UNIQUE, path BLOB NOT NULL, size INTEGER NOT NULL,
  mtime_ns INTEGER NOT NULL, kind TEXT, media_type TEXT, generation TEXT NOT NULL DEFAULT '',
  content_hash TEXT, version INTEGER NOT NULL DEFAULT 0, state TEXT NOT NULL DEFAULT 'pending',
  rule TEXT, attempts INTEGER NOT NULL DEFAULT 0, seen INTEGER NOT NULL);
INSERT INTO "files" VALUES(1,'/tmp/corpus/text 0.txt',X'2F746D702F636F727075732F7465787420302E747874',2128,1700000000617283945,'text','text/plain','tokens=256,overlap=0,v1 618680b3bdf12fb77dec61162278274cf51f9f74e5e40537ec5164bae8ede7bc','b6e9280fd1e7f75c6770dba260038fce318f030f83aaa990603c9e98fd5c544a',0,'indexed',NULL,1,1);
INSERT INTO "files" VALUES(2,'/tmp/corpus/empty.txt',X'2F746D702F636F727075732F656D7074792E747874',0,1700000000493827156,NULL,NULL,'',NULL,1,'skipped','empty',1,1);
INSERT INTO "files" VALUES(3,'/tmp/corpus/broken.pdf',X'2F746D702F636F727075732F62726F6B656E2E706466',24,1700000000123456789,'text','application/pdf','tokens=256,overlap=0,v1 618680b3bdf12fb77dec61162278274cf51f9f74e5e40537ec5164bae8ede7bc','aa51fe61ee6a5e2f0b72b5226fa0f3de6d3313bd48fb4502171f5f093db02a0e',0,'failed',NULL,1,1);
INSERT INTO "files" VALUES(4,'/tmp/corpus/unknown.bin',X'2F746D702F636F727075732F756E6B6E6F776E2E62696E',256,1700000000987654312,NULL,NULL,'',NULL,1,'skipped','unknown-type',1,1);
INSERT INTO "files" VALUES(5,'/tmp/corpus/deep/page.html',X'2F746D702F636F727075732F646565702F706167652E68746D6C',82,-5,'text','text/html','tokens=256,overlap=0,v1 618680b3bdf12fb77dec61162278274cf51f9f74e5e40537ec5164bae8ede7bc','b514c5e4e6faa93b152f784b51abd9476f4263387b616c1d5046e7e03341e351',0,'indexed',NULL,1,1);
INSERT INTO "files" VALUES(6,'/tmp/corpus/text 1.txt',X'2F746D702F636F727075732F7465787420312E747874',5000,1700000100000000000,'text','text/plain','tokens=256,overlap=0,v1 618680b3bdf12fb77dec61162278274cf51f9f74e5e40537ec5164bae8ede7bc','abababababababababababababababababababababababababababababababab',1,'indexed',NULL,1,1);
INSERT INTO "files" VALUES(7,'/tmp/corpus/caf%E9.txt',X'2F746D702F636F727075732F636166E92E747874',25,1700000000246913578,'text','text/plain','tokens=256,overlap=0,v1 618680b3bdf12fb77dec61162278274cf51f9f74e5e40537ec5164bae8ede7bc','579af5f0be3074fa475a953e861cafa2006a67010b2202f42df57df56f6ae22f',0,'indexed',NULL,1,1);
INSERT INTO "files" VALUES(8,'/tmp/corpus/red.png',X'2F746D702F636F727075732F7265642E706E67',139,1796045463719610425,'image','image/png','cd69d1a817d3c033b23694750d7e532c0911eccc6fd28ea33ef56af840705c5d','63f723e589d7db54346f7671ac27a94d42cc53fe7e0699541570b50db3d1ca92',0,'indexed',NULL,1,1);
INSERT INTO "files" VALUES(9,'/tmp/corpus/text 2.txt',X'2F746D702F636F727075732F7465787420322E747874',6368,1700000000864197523,'text','text/plain','tokens=256,overlap=0,v1 618680b3bdf12fb77dec61162278274cf51f9f74e5e40537ec5164bae8ede7bc','bea3faf89247d8b325c9432dc2a868257a3119887c0b4a5daa778835c936ec42',0,'indexed',NULL,1,1);
INSERT INTO "files" VALUES(10,'/tmp/corpus/deep/book.pdf',X'2F746D702F636F727075732F646565702F626F6F6B2E706466',1234,1700000200000000001,'text','application/pdf','tokens=256,overlap=0,v1 618680b3bdf12fb77dec61162278274cf51f9f74e5e40537ec5164bae8ede7bc','cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd',0,'partial',NULL,1,2);
INSERT INTO "files" VALUES(11,'/tmp/corpus/deep/new.txt',X'2F746D702F636F727075732F646565702F6E65772E747874',77,1700000300000000001,NULL,NULL,'',NULL,0,'pending',NULL,1,2);
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "meta" VALUES('adapter','lancedb:///tmp/v2.lancedb');
INSERT INTO "meta" VALUES('config','{"inputs": ["/tmp/corpus"], "files_from": null, "adapter": "lancedb:///tmp/v2.lancedb", "run_dir": "/tmp/run2", "text_model": "stand-in:8", "image_model": "stand-in:8", "trust_remote_code": false, "backend": "auto", "device": "auto", "dtype": "auto", "workers": 1, "chunk_size": null, "chunk_overlap": 0, "buffer": null, "max_ram": null, "parser_memory": null, "shard": "0/1", "fleet": false, "manifest": null, "lease": false, "lease_ttl": 120.0, "file_timeout": 600.0, "file_attempts": 2, "database_deadline": 900.0, "bulk_bytes": 8388608, "bulk_concurrency": 2, "es_index_options": null, "es_store_vectors": null, "lancedb_index": null, "full": false, "grace": 60.0, "include": [], "exclude": [], "hidden": false, "images": true, "exact_images": false, "dedupe": true, "tolerate_truncated": false, "prune": false, "skip_failed": false, "limit": null, "dry_run": false, "fields": {}, "quiet": false, "log_level": "info", "memory_trace": null, "calibrate": false}');
INSERT INTO "meta" VALUES('generation cd69d1a817d3c033b23694750d7e532c0911eccc6fd28ea33ef56af840705c5d','');
INSERT INTO "meta" VALUES('generation tokens=256,overlap=0,v1 618680b3bdf12fb77dec61162278274cf51f9f74e5e40537ec5164bae8ede7bc','');
INSERT INTO "meta" VALUES('identity','eb70b314676b4540b8e6dd25afa2d4e3');
INSERT INTO "meta" VALUES('listed','1');
INSERT INTO "meta" VALUES('plan image','cd69d1a817d3c033b23694750d7e532c0911eccc6fd28ea33ef56af840705c5d');
INSERT INTO "meta" VALUES('plan text','tokens=256,overlap=0,v1 618680b3bdf12fb77dec61162278274cf51f9f74e5e40537ec5164bae8ede7bc');
INSERT INTO "meta" VALUES('run','2');
INSERT INTO "meta" VALUES('state','eb70b314676b4540b8e6dd25afa2d4e3 7');
INSERT INTO "meta" VALUES('unpublished','');
INSERT INTO "meta" VALUES('version','2');
CREATE TABLE replaced (file INTEGER PRIMARY KEY, version INTEGER NOT NULL);
INSERT INTO "replaced" VALUES(6,1);
CREATE TABLE segments (
  file INTEGER NOT NULL, version INTEGER NOT NULL, ordinal INTEGER NOT NULL, after INTEGER NOT NULL,
  page INTEGER, checkpoint TEXT NOT NULL, ids BLOB NOT NULL, complete INTEGER NOT NULL,
  PRIMARY KEY (file, version, ordinal)) WITHOUT ROWID;
INSERT INTO "segments" VALUES(1,0,0,-1,NULL,'["{\"unit\":1,\"start\":2128,\"skip\":0,\"byte\":2128,\"state\":0,\"encoding\":\"utf-8\"}", 0, 0]',X'B78B32D3B30180FC4C3637E7ED0B882FB3738568B0643618B1758129E22BB06A',1);
INSERT INTO "segments" VALUES(5,0,0,-1,NULL,'["{\"unit\":1,\"start\":29,\"encoding\":\"utf-8\",\"mark\":0,\"replaced\":0}", 0, 0]',X'37566714A28206A8F546DD20BEB7A5A2',1);
INSERT INTO "segments" VALUES(6,0,0,-1,NULL,'["{\"unit\":1,\"start\":4248,\"skip\":0,\"byte\":4248,\"state\":0,\"encoding\":\"utf-8\"}", 0, 0]',X'23B2DEFAD0D5B714BCB30A82D23C4852DD08F082866D6906CDCBA938C03EC8AA6A6541B4926E3DA1FF2F8F818AE235C073DE8A7C695DC54B3FB146FD13F4317A',1);
INSERT INTO "segments" VALUES(6,1,0,-1,NULL,'[null, 0, 0]',X'000102030405060708090A0B0C0D0E0F',1);
INSERT INTO "segments" VALUES(7,0,0,-1,NULL,'["{\"unit\":1,\"start\":25,\"skip\":0,\"byte\":25,\"state\":0,\"encoding\":\"utf-8\"}", 0, 0]',X'AA86B38838DAC5AC018BC6D5757EB2D6',1);
INSERT INTO "segments" VALUES(8,0,0,-1,NULL,'["{\"frame\":1}", 0, 0]',X'6858CD347019C689AC3FDA7B1114E68A',1);
INSERT INTO "segments" VALUES(9,0,0,-1,NULL,'["{\"unit\":1,\"start\":6368,\"skip\":0,\"byte\":6368,\"state\":0,\"encoding\":\"utf-8\"}", 0, 0]',X'A885B3073DAFC45AA7AC9181FF6ACF4416FF74B71AE5D2AAEC99A533FC5A8670AC8C2A18BCF470A807D4F582BB5B1DD42C757185C1794C5E777BE3F4C904F404A5DE1FDBA488E472A61D651DB8BA107F',1);
INSERT INTO "segments" VALUES(10,0,0,-1,1,'["1", 0, 0]',X'000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F',1);
INSERT INTO "segments" VALUES(10,0,2097152,2097151,3,'["3", 0, 0]',X'202122232425262728292A2B2C2D2E2F',0);
CREATE TABLE unsettled (file INTEGER PRIMARY KEY, doubt INTEGER NOT NULL);
INSERT INTO "unsettled" VALUES(6,2);
INSERT INTO "unsettled" VALUES(10,0);
INSERT INTO "unsettled" VALUES(11,0);
CREATE INDEX files_seen ON files (seen);
CREATE INDEX files_state ON files (state);
COMMIT;
